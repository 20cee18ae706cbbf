"""Sheets of photos: where photos, borders and marks lie, how captions fit, and what happens with too many or none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cairn.pictures import dropped_sheet as dropped
from cairn.pictures import tiles
from cairn.pictures.contact_sheet import HEAD, MOST_NEIGHBOURS, MOST_ROWS, SheetRow, column_left, contact_sheet
from cairn.pictures.dropped_sheet import MOST_PHOTOS, WIDTH, DroppedRow, dropped_sheet
from cairn.pictures.style import GROUND, PAPER, QUIET, RIGHT, RULE, WRONG, font

Photo = Callable[..., Image.Image]
Pixel = Callable[[Path, int, int], str]
ShareOf = Callable[[Path, str], float]


def row(photo: Photo, *right: bool) -> SheetRow:
    return SheetRow(
        photo(), "Tower\nquery", [(photo("#777700"), f"Tower\n0.{i}", flag) for i, flag in enumerate(right)]
    )


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        assert (image.format, image.mode, image.info) == ("PNG", "RGB", {})
        return image.size


def test_each_photo_found_has_the_border_of_its_kind(tmp_path: Path, photo: Photo, pixel: Pixel) -> None:
    path = tmp_path / "a.png"
    contact_sheet([row(photo, True, False)], path, "Queries")
    middle = HEAD + tiles.TILE // 2
    assert [pixel(path, column_left(c) + 1, middle) for c in range(3)] == [RULE, RIGHT, WRONG]
    assert [pixel(path, column_left(c) + tiles.TILE - 2, middle) for c in range(3)] == [RULE, RIGHT, WRONG]
    assert [pixel(path, column_left(c) + tiles.TILE // 2, middle) for c in range(3)] == [
        "#3366CC",
        "#777700",
        "#777700",
    ]


def test_a_tick_and_a_cross_differ_without_their_colours(tmp_path: Path, photo: Photo) -> None:
    path = tmp_path / "a.png"
    contact_sheet([row(photo, True, False)], path, "Queries")
    with Image.open(path) as image:
        grey = np.asarray(image.convert("RGB"))
    corner = slice(HEAD + tiles.BORDER + 2, HEAD + tiles.BORDER + 2 + tiles.MARK)
    shapes = []
    for column in (1, 2):
        left = column_left(column) + tiles.TILE - tiles.MARK - tiles.BORDER - 2
        shapes.append((grey[corner, left : left + tiles.MARK] > 240).all(axis=2)[6:-6, 6:-6])
    assert all(shape.sum() > 20 for shape in shapes)
    assert (shapes[0] != shapes[1]).mean() > 0.1


def test_a_photo_keeps_its_shape_within_the_square(tmp_path: Path, photo: Photo, pixel: Pixel) -> None:
    path = tmp_path / "a.png"
    contact_sheet([SheetRow(photo("#123456", 50, 200), "tall", [])], path, "Queries")
    left, top = column_left(0) + tiles.BORDER, HEAD + tiles.BORDER
    assert pixel(path, left + 2, top + tiles.PHOTO // 2) == GROUND
    assert [pixel(path, left + tiles.PHOTO // 2, top + y) for y in (1, tiles.PHOTO - 2)] == ["#123456"] * 2
    assert tiles.fitted(photo("red", 50, 200)).size == (tiles.PHOTO // 4, tiles.PHOTO)
    assert tiles.fitted(photo("red", 4000, 1)).size == (tiles.PHOTO, 1)


def test_the_sheet_grows_to_its_limits_and_no_further(tmp_path: Path, photo: Photo) -> None:
    wide = row(photo, *[True] * MOST_NEIGHBOURS)
    contact_sheet([wide], tmp_path / "one.png", "Queries")
    contact_sheet([wide] * MOST_ROWS, tmp_path / "full.png", "Queries")
    contact_sheet([row(photo, *[True] * 9)] * 30, tmp_path / "over.png", "Queries")
    assert size(tmp_path / "over.png") == size(tmp_path / "full.png")
    assert size(tmp_path / "one.png")[0] == size(tmp_path / "full.png")[0] < 1400
    assert size(tmp_path / "one.png")[1] < 400


def test_sheets_have_the_same_bytes_twice_and_do_not_touch_the_photos(tmp_path: Path, photo: Photo) -> None:
    rows, aside = [row(photo, True, False)], [DroppedRow("duplicate", 9, [(photo(), "x"), (None, "y")])]
    for name in ("a", "b"):
        contact_sheet(rows, tmp_path / f"contact-{name}.png", "Queries")
        dropped_sheet(aside, tmp_path / f"dropped-{name}.png", "Set aside")
    for kind in ("contact", "dropped"):
        assert (tmp_path / f"{kind}-a.png").read_bytes() == (tmp_path / f"{kind}-b.png").read_bytes()
    assert rows[0].query.size == (300, 200)


def test_photos_of_any_mode_are_drawn(tmp_path: Path, photo: Photo, pixel: Pixel) -> None:
    path = tmp_path / "a.png"
    rows = [SheetRow(photo("#808080").convert(mode), mode, []) for mode in ("L", "P", "RGBA", "CMYK")]
    contact_sheet(rows, path, "Queries")
    assert pixel(path, column_left(0) + tiles.TILE // 2, HEAD + tiles.TILE // 2) == "#808080"


def test_no_rows_give_a_sentence(tmp_path: Path, share_of: ShareOf) -> None:
    contact_sheet([], tmp_path / "a.png", "Queries")
    dropped_sheet([DroppedRow("duplicate", 0, [])], tmp_path / "b.png", "Set aside")
    for name in ("a.png", "b.png"):
        assert 0.9 < share_of(tmp_path / name, PAPER) < 0.999
        assert share_of(tmp_path / name, QUIET) > 0


def test_a_query_for_which_nothing_was_found(tmp_path: Path, photo: Photo, share_of: ShareOf) -> None:
    contact_sheet([row(photo)], tmp_path / "a.png", "Queries")
    assert share_of(tmp_path / "a.png", RIGHT) == share_of(tmp_path / "a.png", WRONG) == 0


def test_dropped_rows_stand_below_each_other(tmp_path: Path, photo: Photo) -> None:
    some = DroppedRow("too small", MOST_PHOTOS + 3, [(photo(), "63 x 40")] * (MOST_PHOTOS + 3))
    dropped_sheet([some], tmp_path / "one.png", "Set aside")
    dropped_sheet([some, DroppedRow("unused", 0, []), some], tmp_path / "two.png", "Set aside")
    dropped_sheet([DroppedRow("not shown", 5, [])], tmp_path / "none.png", "Set aside")
    heights = {name: size(tmp_path / f"{name}.png")[1] for name in ("none", "one", "two")}
    assert {size(tmp_path / f"{name}.png")[0] for name in heights} == {WIDTH}
    assert heights["two"] - heights["one"] == tiles.TILE_HEIGHT + dropped.ROW_HEAD + dropped.ROW_GAP
    assert heights["one"] - heights["none"] == tiles.TILE_HEIGHT


def test_a_photo_that_cannot_be_opened_leaves_its_square_grey(tmp_path: Path, pixel: Pixel) -> None:
    path = tmp_path / "a.png"
    dropped_sheet([DroppedRow("cannot be decoded", 1, [(None, "empty file")])], path, "Set aside")
    assert pixel(path, tiles.MARGIN + tiles.TILE // 2, dropped.HEAD + dropped.ROW_HEAD + tiles.TILE // 4) == GROUND


def test_more_photos_than_were_set_aside_are_an_error(tmp_path: Path, photo: Photo) -> None:
    with pytest.raises(ValueError, match="'duplicate' has 2 photos but a total of 1"):
        dropped_sheet([DroppedRow("duplicate", 1, [(photo(), "a"), (photo(), "b")])], tmp_path / "a.png", "Set aside")


@given(st.text(alphabet="abc WMÉ\n", max_size=200))
def test_captions_fit_their_tile(caption: str) -> None:
    lines = tiles.caption_lines(caption)
    assert 1 <= len(lines) <= tiles.CAPTION_LINES
    assert all(font(tiles.CAPTION_SIZE).getlength(line) <= tiles.TILE for line in lines)


def test_captions_wrap_the_name_and_keep_the_score() -> None:
    lines = tiles.caption_lines("Basilica of the Sacred Heart of the Very Holy Something Else\n0.91")
    assert len(lines) == 3
    assert lines[-1] == "0.91"
    assert lines[1].endswith("…")
    assert tiles.caption_lines("Tower\n0.91") == ["Tower", "0.91"]
