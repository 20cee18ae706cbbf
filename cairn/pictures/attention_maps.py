"""Photos beside themselves with their attention maps laid over, and what was said of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from cairn.pictures.style import INK, QUIET, RULE, font, write_note, write_sheet
from cairn.pictures.tiles import GAP, MARGIN, TILE, TILE_HEIGHT, Tile, blank_sheet, draw_tile, draw_title, fitted

MOST_PHOTOS = 16
PAIRS = 2  # photos a row
SPLIT = 18  # more room between one photo's pair and the next
ROW_GAP = 18
HEAD = 104  # pixels: title, colour bar
BAR = (190, 14)  # pixels of the colour bar
COLOURS = "viridis"  # perceptually even, and told apart by colour-blind readers
OPACITY = 0.6  # of the map over the grey photo


class AttentionRow(NamedTuple):
    """A photo as the network saw it, its map, and what to write below: lines of the photo, lines of the answer."""

    photo: Image.Image
    attention: NDArray[np.floating]  # [height, width] of any size, in [0, 1]
    caption: str  # the landmark's name
    said: str  # the answer, its score
    right: bool


def attention_maps(rows: Sequence[AttentionRow], path: Path, title: str) -> None:
    """Draw the first MOST_PHOTOS photos, each beside itself in grey under its map, to a PNG at `path`.

    All maps of a sheet share one scale, from the least to the largest value shown, which the colour bar tells. Without
    rows the PNG says so. Raises ValueError if a map is not flat [height, width] or has a value outside [0, 1].
    """
    if not rows:
        write_note(path, title, "No photos to show.")
        return
    shown = rows[:MOST_PHOTOS]
    for row in shown:
        _check(row.attention, path)
    scale = min(float(row.attention.min()) for row in shown), max(float(row.attention.max()) for row in shown)
    pairs = min(PAIRS, len(shown))
    lines = -(-len(shown) // pairs)
    width = pair_left(pairs) - SPLIT - GAP + MARGIN
    sheet, pen = blank_sheet(width, HEAD + lines * (TILE_HEIGHT + ROW_GAP) + MARGIN - ROW_GAP)
    draw_title(pen, width, title)
    _draw_bar(sheet, pen, scale)
    for number, row in enumerate(shown):
        line, pair = divmod(number, pairs)
        left, top = pair_left(pair), HEAD + line * (TILE_HEIGHT + ROW_GAP)
        draw_tile(sheet, pen, left, top, Tile(row.photo, row.caption))
        draw_tile(
            sheet, pen, left + TILE + GAP, top, Tile(overlaid(row.photo, row.attention, scale), row.said, row.right)
        )
    write_sheet(path, sheet)


def pair_left(pair: int) -> int:
    """The left edge, in pixels, of the n-th photo of a row (0, 1, ...)."""
    return MARGIN + pair * (2 * (TILE + GAP) + SPLIT)


def overlaid(photo: Image.Image, attention: NDArray[np.floating], scale: tuple[float, float]) -> Image.Image:
    """The photo in grey, at a tile's size, under the colours of its map [height, width] on `scale` (low, high)."""
    grey = ImageOps.grayscale(fitted(photo)).convert("RGB")
    map_ = Image.fromarray(np.asarray(attention, dtype=np.float32))
    values = np.asarray(map_.resize(grey.size, Image.Resampling.BICUBIC))
    low, high = scale
    return Image.blend(grey, _coloured((values - low) / (high - low or 1.0)), OPACITY)


def _coloured(shares: NDArray[np.floating]) -> Image.Image:
    """An RGB image of shares of the scale [height, width]; what lies outside [0, 1] gets the colour of its end."""
    colours = matplotlib.colormaps[COLOURS](np.clip(shares, 0, 1), bytes=True)
    return Image.fromarray(np.ascontiguousarray(colours[..., :3]))


def _draw_bar(sheet: Image.Image, pen: ImageDraw.ImageDraw, scale: tuple[float, float]) -> None:
    small = font(13)
    width, height = BAR
    top, middle = HEAD - 44, HEAD - 44 + BAR[1] // 2
    pen.text((MARGIN, middle), "attention", fill=QUIET, font=small, anchor="lm")
    left = MARGIN + round(small.getlength("attention")) + GAP
    low, high = (f"{value:.3f}" for value in scale)
    pen.text((left, middle), low, fill=INK, font=small, anchor="lm")
    left += round(small.getlength(low)) + 6
    sheet.paste(_coloured(np.tile(np.linspace(0, 1, width), (height, 1))), (left, top))
    pen.rectangle((left - 1, top - 1, left + width, top + height), outline=RULE)
    pen.text((left + width + 6, middle), high, fill=INK, font=small, anchor="lm")


def _check(attention: NDArray[np.floating], path: Path) -> None:
    if attention.ndim != 2 or not attention.size or not ((attention >= 0) & (attention <= 1)).all():
        raise ValueError(f"{path}: a map must be [height, width] in [0, 1]; this one is of shape {attention.shape}")
