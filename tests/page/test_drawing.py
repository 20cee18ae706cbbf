"""Previews are upright JPEGs; the lines of the picture of matches go from point to point."""

from __future__ import annotations

import base64
import io
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from cairn.client import Match
from cairn.page.drawing import GAP, HEIGHT, MOST_LINES, SIDE, WIDEST, Preview, matched, preview

SVG = "{http://www.w3.org/2000/svg}"


def test_a_preview_is_small_and_upright_whatever_the_format() -> None:
    exif, out = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6  # seen upright, it is higher than wide
    Image.new("RGB", (3 * SIDE, 2 * SIDE), "red").save(out, format="TIFF", exif=exif)
    made = preview(out.getvalue())
    assert made is not None
    assert (made.width, made.height) == (SIDE, 3 * SIDE // 2)
    shown = Image.open(io.BytesIO(base64.b64decode(made.url.removeprefix("data:image/jpeg;base64,"))))
    assert (shown.format, shown.size) == ("JPEG", (made.width, made.height))
    assert preview(b"no photo") is None


def test_a_strip_that_no_jpeg_can_hold_has_no_preview() -> None:
    out = io.BytesIO()
    Image.new("L", (70_000, 40)).save(out, "PNG")
    assert preview(out.getvalue()) is None


def numbers(element: ElementTree.Element, *names: str) -> list[float]:
    return [float(element.attrib[name]) for name in names]


def test_lines_join_the_points_of_both_photos() -> None:
    left, right = Preview("data:a", 400, 200), Preview("data:b", 100, 200)
    drawn = ElementTree.fromstring(matched(left, right, [Match(0, 0.25, 0.5, 0.5, 0.125)], "<b>2 & 3</b>"))
    here, there = drawn.findall(f"{SVG}image")
    width = WIDEST if 2 * HEIGHT > WIDEST else 2 * HEIGHT
    assert numbers(here, "x", "y", "width", "height") == [0, 0, width, HEIGHT]
    assert numbers(there, "x", "y", "width", "height") == [width + GAP, 0, HEIGHT / 2, HEIGHT]
    for line in drawn.iter(f"{SVG}line"):
        ends = numbers(line, "x1", "y1", "x2", "y2")
        assert ends == [0.25 * width, 0.5 * HEIGHT, width + GAP + HEIGHT / 4, HEIGHT / 8]
    assert len(list(drawn.iter(f"{SVG}circle"))) == 2
    assert drawn.findtext(f"{SVG}title") == "<b>2 & 3</b>"


def test_a_panorama_is_made_lower_and_stands_in_the_middle() -> None:
    drawn = ElementTree.fromstring(matched(Preview("data:a", 1280, 100), Preview("data:b", 100, 100), [], ""))
    here, there = drawn.findall(f"{SVG}image")
    assert numbers(here, "width", "height", "y") == [WIDEST, 50, (HEIGHT - 50) / 2]
    assert numbers(there, "x", "y") == [WIDEST + GAP, 0]


def test_of_many_matches_some_are_drawn_the_first_and_the_last_among_them() -> None:
    square = Preview("data:a", HEIGHT, HEIGHT)
    every = [Match(0, float(x), 0.0, 0.0, 0.0) for x in np.linspace(0, 1, 500)]
    drawn = ElementTree.fromstring(matched(square, square, every, ""))
    group = drawn.findall(f"{SVG}g")[0]
    starts = [float(line.attrib["x1"]) for line in group]
    assert len(starts) == MOST_LINES
    assert (starts[0], starts[-1]) == (0, HEIGHT)
    assert np.ptp(np.diff(starts)) < 0.01 * HEIGHT
