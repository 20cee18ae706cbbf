"""Photos as a browser shows them, and a picture of two photos with lines between the points that match."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from cairn.client import Match
from cairn.photos import JPEG_SIDE, DecodeError, decode

SIDE = 480  # pixels, the short side of a preview
MAX_MEGAPIXELS = 100
QUALITY = 88  # of its JPEG

HEIGHT = 320  # of both photos in the picture; its units are pixels where there is room
WIDEST = 640  # a panorama is made lower instead
GAP = 24
MOST_LINES = 60  # more hide the photos
LINE, POINT = "#0072B2", "#E69F00"  # colours that colour-blind people tell apart


class Preview(NamedTuple):
    """A photo, upright and small enough for a page."""

    url: str  # data: with a JPEG
    width: int  # pixels
    height: int


def preview(content: bytes) -> Preview | None:
    """The photo for a browser, whatever format it has; none if it cannot be decoded, or is too long for a JPEG."""
    try:
        image = decode(content, SIDE, MAX_MEGAPIXELS)
    except DecodeError:
        return None
    if max(image.size) > JPEG_SIDE:
        return None
    out = io.BytesIO()
    image.save(out, format="JPEG", quality=QUALITY)
    return Preview(f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}", *image.size)


def matched(photo: Preview, neighbour: Preview, matches: Sequence[Match], said: str) -> str:
    """SVG of the two photos side by side and of at most MOST_LINES lines, evenly chosen; `said` is its description."""
    left, right = _fitted(photo), _fitted(neighbour)
    height, shift = max(left[1], right[1]), left[0] + GAP
    tops = ((height - left[1]) / 2, (height - right[1]) / 2)
    kept = np.linspace(0, len(matches) - 1, min(len(matches), MOST_LINES)).round().astype(int)
    lines, points = [], []
    for match in (matches[row] for row in kept):
        x, y = match.x * left[0], tops[0] + match.y * left[1]
        other_x, other_y = shift + match.neighbour_x * right[0], tops[1] + match.neighbour_y * right[1]
        lines.append(f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{other_x:.1f}" y2="{other_y:.1f}"/>')
        points += [f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="3"/>' for cx, cy in ((x, y), (other_x, other_y))]
    return (
        f'<svg class="matches" role="img" viewBox="0 0 {shift + right[0]:.0f} {height:.0f}" '
        f'xmlns="http://www.w3.org/2000/svg"><title>{escape(said)}</title>'
        f"{_image(photo, 0, tops[0], left)}{_image(neighbour, shift, tops[1], right)}"
        f'<g stroke="white" stroke-width="3" stroke-opacity="0.5">{"".join(lines)}</g>'  # to be seen on dark photos too
        f'<g stroke="{LINE}" stroke-width="1.5" stroke-opacity="0.8">{"".join(lines)}</g>'
        f'<g fill="{POINT}" stroke="{LINE}" stroke-width="1">{"".join(points)}</g></svg>'
    )


def _fitted(photo: Preview) -> tuple[float, float]:
    """Width and height it is drawn at."""
    scale = min(HEIGHT / photo.height, WIDEST / photo.width)
    return photo.width * scale, photo.height * scale


def _image(photo: Preview, x: float, y: float, size: tuple[float, float]) -> str:
    return f'<image href="{photo.url}" x="{x:.1f}" y="{y:.1f}" width="{size[0]:.1f}" height="{size[1]:.1f}"/>'
