"""Queries beside the photos found for them, with lines between the points of both that fit together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cairn.evaluation import Judged, order_for_people
from cairn.manifest import NONE
from cairn.pictures.answers import name_of
from cairn.pictures.photos import ReadImage
from cairn.pictures.style import GROUND, INK, PAPER, QUIET, RIGHT, RULE, WRONG, font, write_note, write_sheet
from cairn.pictures.tiles import (
    BORDER,
    CAPTION_LINE,
    CAPTION_SIZE,
    GAP,
    MARGIN,
    blank_sheet,
    draw_title,
    fitted,
    shortened,
)
from cairn.retrieval.local.pixels import reduced
from cairn.retrieval.rerankers.base import Context
from cairn.retrieval.rerankers.local_features import LocalFeatures, LocalFeaturesParams, build

MOST_ROWS = 8
MOST_LINES = 60  # a row; more hide the photos
ROWS_EACH = 4  # of the surest right answers and of the surest wrong ones
SIDE = 340  # pixels, the square a photo is fitted into
PANEL = SIDE + 2 * BORDER
CAPTION_LINES = 3
ROW_HEIGHT = PANEL + 6 + CAPTION_LINES * CAPTION_LINE
ROW_GAP = 18
HEAD = 84  # pixels: title, legend
WIDTH = 2 * MARGIN + 2 * PANEL + GAP
DOT = 3  # pixels, half of a point's width
FINE = 3  # lines are drawn so many times larger, then made smooth
LEGEND = "Left the query, right a photo found; lines join the points of both that fit together"


class MatchRow(NamedTuple):
    """A query, a photo found, and the points [inliers, 2] of each that fit together, x and y in pixels of its image."""

    query: Image.Image
    photo: Image.Image
    query_points: NDArray[np.floating]
    photo_points: NDArray[np.floating]
    caption: str  # below the query
    said: str  # below the photo
    right: bool  # whether the photo shows the query's landmark


def matched_points(rows: Sequence[MatchRow], path: Path, title: str) -> None:
    """Draw the first MOST_ROWS pairs of photos with at most MOST_LINES lines each, evenly chosen, to a PNG at `path`.

    The lines are green where the photo is right and red where it is wrong; the words below say it too, and how many
    points fit. Without rows the PNG says so. Raises ValueError if a row's points are not as many on both sides.
    """
    if not rows:
        write_note(path, title, "No matches to show.")
        return
    shown = rows[:MOST_ROWS]
    for row in shown:
        if row.query_points.shape != row.photo_points.shape or row.query_points.shape[1:] != (2,):
            raise ValueError(
                f"{path}: points {row.query_points.shape} and {row.photo_points.shape} must be [n, 2] each"
            )
    sheet, pen = blank_sheet(WIDTH, HEAD + len(shown) * (ROW_HEIGHT + ROW_GAP) + MARGIN - ROW_GAP)
    draw_title(pen, WIDTH, title)
    small = font(CAPTION_SIZE)
    pen.text((MARGIN, HEAD - 10), shortened(LEGEND, small, WIDTH - 2 * MARGIN), fill=QUIET, font=small, anchor="ls")
    for number, row in enumerate(shown):
        _draw_row(sheet, pen, HEAD + number * (ROW_HEIGHT + ROW_GAP), row)
    write_sheet(path, sheet)


def panel_left(side: int) -> int:
    """The left edge, in pixels, of the query's square (0) or of the photo's (1)."""
    return MARGIN + side * (PANEL + GAP)


def _draw_row(sheet: Image.Image, pen: ImageDraw.ImageDraw, top: int, row: MatchRow) -> None:
    colour = RIGHT if row.right else WRONG
    count = len(row.query_points)
    drawn = np.linspace(0, count, min(count, MOST_LINES), endpoint=False).astype(np.int64)
    judged = "the same landmark" if row.right else "another landmark"
    fit = f"{count} point{'' if count == 1 else 's'} fit, {judged}"
    captions = row.caption, f"{fit}\n{row.said}"
    ends = []
    for side, (image, points) in enumerate(((row.query, row.query_points), (row.photo, row.photo_points))):
        left = panel_left(side)
        border = colour if side else RULE
        pen.rectangle((left, top, left + PANEL - 1, top + PANEL - 1), fill=GROUND, outline=border, width=BORDER)
        photo = fitted(image, SIDE)
        corner = left + BORDER + (SIDE - photo.width) // 2, top + BORDER + (SIDE - photo.height) // 2
        sheet.paste(photo, corner)
        ends.append((points[drawn] + 0.5) * np.divide(photo.size, image.size) + corner)
        for number, line in enumerate(captions[side].split("\n")[:CAPTION_LINES]):
            place = left, top + PANEL + 6 + number * CAPTION_LINE
            pen.text(place, shortened(line, font(CAPTION_SIZE), PANEL), fill=INK, font=font(CAPTION_SIZE))
    _draw_lines(sheet, top, ends[0], ends[1], colour)


def _draw_lines(sheet: Image.Image, top: int, a: NDArray[np.floating], b: NDArray[np.floating], colour: str) -> None:
    """Lines from a to b [n, 2], in pixels of the sheet, each with a light edge that shows it on any photo."""
    layer = Image.new("RGBA", (WIDTH * FINE, PANEL * FINE), (255, 255, 255, 0))
    pen = ImageDraw.Draw(layer)
    for start, end in zip((a - (0, top)) * FINE, (b - (0, top)) * FINE, strict=True):
        pen.line((*start, *end), fill=PAPER, width=4 * FINE)
        pen.line((*start, *end), fill=colour, width=2 * FINE)
    for x, y in np.concatenate([a - (0, top), b - (0, top)]) * FINE:
        reach = DOT * FINE
        pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=colour, outline=PAPER, width=FINE)
    smooth = layer.resize((WIDTH, PANEL), Image.Resampling.BOX)
    sheet.paste(smooth, (0, top), smooth)


def draw_matches(
    test: Judged, params: LocalFeaturesParams, context: Context, names: Mapping[int, str], read: ReadImage, path: Path
) -> None:
    """Draw what a step compared: the surest right and the surest wrong answers beside their first photo, to `path`.

    `context` is the one that the step was built with; `read` gives photos of the size that its features come from.
    Raises RerankError as `local_features.build` does.
    """
    order = order_for_people(test)
    rows = [row for name in ("surest_right", "surest_wrong") for row in order[name][:ROWS_EACH].tolist()]
    rows = [row for row in rows if test.found.landmark_ids[row, 0] != NONE]
    step = build(params, context)
    matched_points([match_row(test, row, step, names, read) for row in rows], path, "Matched points")


def match_row(test: Judged, row: int, step: LocalFeatures, names: Mapping[int, str], read: ReadImage) -> MatchRow:
    """One query with the first photo found for it, both reduced as the step reduces them."""
    query_id, image_id = int(test.image_ids[row]), int(test.found.image_ids[row, 0])
    fit = step.fit(query_id, image_id)
    true, shown = int(test.true[row]), int(test.found.landmark_ids[row, 0])
    query, photo = (Image.fromarray(reduced(np.asarray(read(i)), step.params.size)) for i in (query_id, image_id))
    said = f"{name_of(shown, names)}\nscore {test.found.scores[row, 0]:.3f}"
    return MatchRow(query, photo, fit.query, fit.photo, f"shows {name_of(true, names)}", said, shown == true)
