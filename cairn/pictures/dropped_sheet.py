"""Photos that were set aside, a row per reason."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw

from cairn.pictures.style import INK, QUIET, font, write_note, write_sheet
from cairn.pictures.tiles import GAP, MARGIN, TILE, TILE_HEIGHT, Tile, blank_sheet, draw_tile, draw_title, shortened

MOST_PHOTOS = 6
HEAD = 60  # pixels, for the title
ROW_HEAD = 28  # pixels, for the reason
ROW_GAP = 18
WIDTH = 2 * MARGIN + MOST_PHOTOS * (TILE + GAP) - GAP


class DroppedRow(NamedTuple):
    """Why photos were set aside, how many, and some of them: (image or None if it cannot be opened, caption)."""

    reason: str
    total: int
    photos: Sequence[tuple[Image.Image | None, str]]


def dropped_sheet(rows: Sequence[DroppedRow], path: Path, title: str) -> None:
    """Draw each reason with its total and its first MOST_PHOTOS photos to a PNG at `path`.

    Reasons without a photo set aside (total 0) are left out. If none is left, the PNG says that nothing was set aside.
    Raises ValueError if a row has more photos than its total.
    """
    wrong = next((row for row in rows if len(row.photos) > row.total), None)
    if wrong is not None:
        raise ValueError(f"{path}: {wrong.reason!r} has {len(wrong.photos)} photos but a total of {wrong.total}")
    shown = [row for row in rows if row.total]
    if not shown:
        write_note(path, title, "No photo was set aside.")
        return
    heights = [ROW_HEAD + (TILE_HEIGHT if row.photos else 0) + ROW_GAP for row in shown]
    sheet, pen = blank_sheet(WIDTH, HEAD + sum(heights) + MARGIN - ROW_GAP)
    draw_title(pen, WIDTH, title)
    top = HEAD
    for row, height in zip(shown, heights, strict=True):
        _draw_row(sheet, pen, top, row)
        top += height
    write_sheet(path, sheet)


def _draw_row(sheet: Image.Image, pen: ImageDraw.ImageDraw, top: int, row: DroppedRow) -> None:
    face, base = font(14, bold=True), top + ROW_HEAD - 9
    shown = min(len(row.photos), MOST_PHOTOS)
    note = f"{row.total:,} photos" if row.total != 1 else "1 photo"
    if shown < row.total:
        note += f", {shown} shown" if shown else ", none shown"
    reason = shortened(row.reason, face, WIDTH - 2 * MARGIN - round(font(13).getlength(note)) - GAP)
    pen.text((MARGIN, base), reason, fill=INK, font=face, anchor="ls")
    pen.text((MARGIN + face.getlength(reason) + GAP, base), note, fill=QUIET, font=font(13), anchor="ls")
    for place, (image, caption) in enumerate(row.photos[:MOST_PHOTOS]):
        draw_tile(sheet, pen, MARGIN + place * (TILE + GAP), top + ROW_HEAD, Tile(image, caption))
