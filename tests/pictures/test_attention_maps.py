"""Sheets of attention maps: where photo and map lie, the colours of a map, one scale a sheet, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from cairn.pictures import attention_maps as sheet
from cairn.pictures.attention_maps import HEAD, MOST_PHOTOS, AttentionRow, attention_maps, overlaid, pair_left
from cairn.pictures.style import PAPER, QUIET, RIGHT, RULE, WRONG
from cairn.pictures.tiles import BORDER, GAP, PHOTO, TILE

Photo = Callable[..., Image.Image]
Pixel = Callable[[Path, int, int], str]

LEFT_HIGH = np.array([[0.9, 0.1], [0.9, 0.1]])


def row(photo: Photo, attention: np.ndarray = LEFT_HIGH, right: bool = True) -> AttentionRow:
    return AttentionRow(photo("#3366CC"), attention, "Tower", "said Tower\nscore 0.9", right)


def blended(share: float, grey: int) -> np.ndarray:
    """The colour of a share of the scale over a grey photo."""
    colour = 255 * np.array(matplotlib.colormaps["viridis"](float(share))[:3])
    return 0.6 * colour + 0.4 * grey


def test_a_map_lies_over_the_grey_photo_with_its_own_left_and_right(photo: Photo) -> None:
    image = np.asarray(overlaid(photo("#808080", 300, 200), LEFT_HIGH, (0.1, 0.9)))
    assert image.shape == (112, PHOTO, 3)
    assert image[56, 2] == pytest.approx(blended(1, 128), abs=2)
    assert image[56, -3] == pytest.approx(blended(0, 128), abs=2)


def test_top_and_bottom_are_not_swapped(photo: Photo) -> None:
    image = np.asarray(overlaid(photo("#808080", 100, 100), np.array([[0.9], [0.1]]), (0.1, 0.9)))
    assert image[2, 80] == pytest.approx(blended(1, 128), abs=2)
    assert image[-3, 80] == pytest.approx(blended(0, 128), abs=2)


def test_photo_and_map_stand_side_by_side_with_the_border_of_their_kind(
    tmp_path: Path, photo: Photo, pixel: Pixel
) -> None:
    path = tmp_path / "a.png"
    attention_maps([row(photo), row(photo, right=False)], path, "Maps")
    middle = HEAD + TILE // 2
    lefts = [pair_left(pair) + column * (TILE + GAP) for pair in (0, 1) for column in (0, 1)]
    assert [pixel(path, left + 1, middle) for left in lefts] == [RULE, RIGHT, RULE, WRONG]
    assert pixel(path, lefts[0] + TILE // 2, middle) == "#3366CC"
    assert pixel(path, lefts[1] + TILE // 2, middle) != "#3366CC"


def test_one_scale_for_all_maps_of_a_sheet(tmp_path: Path, photo: Photo, pixel: Pixel) -> None:
    """A map that is 0.4 everywhere is dark beside brighter ones and bright beside darker ones."""
    flat, seen = np.full((3, 3), 0.4), []
    for name, other in (("a", 0.9), ("b", 0.1)):
        attention_maps([row(photo, flat), row(photo, np.full((3, 3), other))], tmp_path / f"{name}.png", "Maps")
        shown = pixel(tmp_path / f"{name}.png", pair_left(0) + TILE + GAP + TILE // 2, HEAD + TILE // 2)
        seen.append(np.array([int(shown[i : i + 2], 16) for i in (1, 3, 5)]))
    grey = round(0.299 * 0x33 + 0.587 * 0x66 + 0.114 * 0xCC)
    assert seen[0] == pytest.approx(blended(0, grey), abs=2)
    assert seen[1] == pytest.approx(blended(1, grey), abs=2)


def test_the_colour_bar_runs_from_one_end_of_the_colours_to_the_other(tmp_path: Path, photo: Photo) -> None:
    attention_maps([row(photo)], tmp_path / "a.png", "Maps")
    with Image.open(tmp_path / "a.png") as image:
        line = np.asarray(image)[HEAD - 44 + 7].astype(int)
    ends = [(255 * np.array(matplotlib.colormaps["viridis"](share)[:3])).round() for share in (0.0, 1.0)]
    first, last = (int((np.abs(line - end).max(axis=1) <= 1).argmax()) for end in ends)
    assert last - first == pytest.approx(sheet.BAR[0], abs=3)


def test_the_same_bytes_twice_no_metadata_and_the_photo_untouched(tmp_path: Path, photo: Photo) -> None:
    rows = [row(photo)]
    for name in ("a", "b"):
        attention_maps(rows, tmp_path / f"{name}.png", "Maps")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert (image.mode, image.info) == ("RGB", {})
    assert rows[0].photo.size == (300, 200)


def test_the_sheet_grows_to_its_limit_and_nothing_is_drawn_in_the_margin(tmp_path: Path, photo: Photo) -> None:
    heights = []
    for count in (1, 2, 3, MOST_PHOTOS, MOST_PHOTOS + 5):
        attention_maps([row(photo)] * count, tmp_path / "a.png", "Maps " * 60)
        with Image.open(tmp_path / "a.png") as image:
            heights.append(image.height)
            assert (np.asarray(image)[:, -BORDER * 5 :] == 255).all()
    assert heights[0] == heights[1] < heights[2] < heights[3] == heights[4]


def test_maps_that_say_nothing_and_no_rows(
    tmp_path: Path, photo: Photo, share_of: Callable[[Path, str], float]
) -> None:
    attention_maps([row(photo, np.full((7, 7), 0.5, dtype=np.float32))], tmp_path / "flat.png", "Maps")
    attention_maps([], tmp_path / "none.png", "Maps")
    assert 0.9 < share_of(tmp_path / "none.png", PAPER) < 0.999
    assert share_of(tmp_path / "none.png", QUIET) > 0


@pytest.mark.parametrize(
    "wrong", [np.zeros((1, 7, 7)), np.full((2, 2), 1.5), np.full((2, 2), np.nan), np.zeros((0, 2))]
)
def test_maps_that_cannot_be(tmp_path: Path, photo: Photo, wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"\[height, width\] in \[0, 1\]"):
        attention_maps([row(photo, wrong)], tmp_path / "a.png", "Maps")
    assert not list(tmp_path.iterdir())
