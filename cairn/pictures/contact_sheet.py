"""Queries beside the photos found for them, each marked right or wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw

from cairn.pictures.style import QUIET, RULE, font, write_note, write_sheet
from cairn.pictures.tiles import (
    GAP,
    MARGIN,
    MARK,
    TILE,
    TILE_HEIGHT,
    Tile,
    blank_sheet,
    draw_tile,
    draw_title,
    shortened,
)

MOST_ROWS = 12
MOST_NEIGHBOURS = 5
HEAD = 84  # pixels: title and column names
SPLIT = 18  # more room between a query and its neighbours
ROW_GAP = 18
LEGEND = "Nearest photos (tick: the query's landmark; cross: another)"


class SheetRow(NamedTuple):
    """A query photo, its caption, and the photos found: (image, caption, right), best first."""

    query: Image.Image
    caption: str
    neighbours: Sequence[tuple[Image.Image, str, bool]]


def contact_sheet(rows: Sequence[SheetRow], path: Path, title: str) -> None:
    """Draw the first MOST_ROWS rows, with at most MOST_NEIGHBOURS photos found each, to a PNG at `path`.

    A newline in a caption starts a line; three lines are shown. Without rows the PNG says so.
    """
    if not rows:
        write_note(path, title, "No queries to show.")
        return
    shown = rows[:MOST_ROWS]
    columns = max(1, min(MOST_NEIGHBOURS, max(len(row.neighbours) for row in shown)))
    width = 2 * MARGIN + (columns + 1) * (TILE + GAP) + SPLIT - GAP
    height = HEAD + len(shown) * (TILE_HEIGHT + ROW_GAP) + MARGIN - ROW_GAP
    sheet, pen = blank_sheet(width, height)
    draw_title(pen, width, title)
    _name_columns(pen, width)
    for number, row in enumerate(shown):
        _draw_row(sheet, pen, HEAD + number * (TILE_HEIGHT + ROW_GAP), row)
    write_sheet(path, sheet)


def column_left(column: int) -> int:
    """The left edge, in pixels, of the query (0) or of the n-th photo found (1, 2, ...)."""
    return MARGIN + column * (TILE + GAP) + (SPLIT if column else 0)


def _name_columns(pen: ImageDraw.ImageDraw, width: int) -> None:
    pen.text((column_left(0), HEAD - 10), "Query", fill=QUIET, font=font(13), anchor="ls")
    legend = shortened(LEGEND, font(13), width - MARGIN - column_left(1))
    pen.text((column_left(1), HEAD - 10), legend, fill=QUIET, font=font(13), anchor="ls")


def _draw_row(sheet: Image.Image, pen: ImageDraw.ImageDraw, top: int, row: SheetRow) -> None:
    draw_tile(sheet, pen, column_left(0), top, Tile(row.query, row.caption))
    rule = column_left(1) - (SPLIT + GAP) // 2
    pen.line((rule, top, rule, top + TILE_HEIGHT - 1), fill=RULE, width=1)
    for place, (image, caption, right) in enumerate(row.neighbours[:MOST_NEIGHBOURS], start=1):
        draw_tile(sheet, pen, column_left(place), top, Tile(image, caption, right))
    if not row.neighbours:
        pen.text((column_left(1), top + MARK), "nothing found", fill=QUIET, font=font(13))
