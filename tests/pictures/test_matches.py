"""Lines between photos: from where to where, in which colour, how many; and what the sheet says of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from retrieval.local.rendered import askew, picture

from cairn.evaluation import Judged
from cairn.manifest import NONE
from cairn.pictures import matches as sheet
from cairn.pictures.matches import (
    HEAD,
    MOST_LINES,
    MOST_ROWS,
    PANEL,
    MatchRow,
    draw_matches,
    match_row,
    matched_points,
    panel_left,
)
from cairn.pictures.style import GROUND, PAPER, QUIET, RIGHT, RULE, WRONG
from cairn.pictures.tiles import BORDER, MARGIN
from cairn.retrieval.local import EXTRACTORS
from cairn.retrieval.local.pixels import reduced
from cairn.retrieval.neighbours import Neighbours
from cairn.retrieval.rerankers.base import Context
from cairn.retrieval.rerankers.local_features import LocalFeaturesParams, build

Photo = Callable[..., Image.Image]
Pixel = Callable[[Path, int, int], str]
Where = Callable[[Path, str], np.ndarray]

ONE = np.array([[150.0, 100.0]])


def row(photo: Photo, a: NDArray[np.floating] = ONE, b: NDArray[np.floating] = ONE, right: bool = True) -> MatchRow:
    return MatchRow(photo(), photo("#777700"), a, b, "shows Tower", "Tower\nscore 0.9", right)


def test_photos_stand_side_by_side_with_the_border_of_their_kind(tmp_path: Path, photo: Photo, pixel: Pixel) -> None:
    path, nothing = tmp_path / "a.png", np.zeros((0, 2))
    for right, colour in ((True, RIGHT), (False, WRONG)):
        matched_points([row(photo, nothing, nothing, right)], path, "Matches")
        middle = HEAD + PANEL // 2
        assert [pixel(path, panel_left(side) + 1, middle) for side in (0, 1)] == [RULE, colour]
        assert [pixel(path, panel_left(side) + PANEL // 2, middle) for side in (0, 1)] == ["#3366CC", "#777700"]
        assert pixel(path, panel_left(0) + PANEL // 2, HEAD + BORDER + 2) == GROUND  # a wide photo


@pytest.mark.parametrize(("right", "colour"), [(True, RIGHT), (False, WRONG)])
def test_a_line_runs_from_point_to_point(tmp_path: Path, photo: Photo, pixel: Pixel, right: bool, colour: str) -> None:
    path = tmp_path / "a.png"
    a, b = np.array([[-0.5, -0.5]]), np.array([[299.5, 199.5]])  # the upper left and the lower right corner
    matched_points([row(photo, a, b, right)], path, "Matches")
    height = round(200 * sheet.SIDE / 300)
    edge = BORDER + (sheet.SIDE - height) // 2
    start = panel_left(0) + BORDER, HEAD + edge
    end = panel_left(1) + BORDER + sheet.SIDE, HEAD + edge + height
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = (round(s + share * (e - s)) for s, e in zip(start, end, strict=True))
        near = [pixel(path, x + dx, y + dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)]
        assert colour in near, share


def test_no_more_lines_than_can_be_seen(tmp_path: Path, photo: Photo, where: Where) -> None:
    """Points in a column: each line is level, so that lines are counted down the gap between the photos."""

    def column(count: int) -> NDArray[np.floating]:
        return np.stack([np.full(count, 100.0), np.linspace(2, 290, count)], axis=1)

    counted = []
    for count in (1, 20, MOST_LINES):
        high = photo("#3366CC", 200, 300)
        tall = MatchRow(high, high, column(count), column(count), "", "", True)
        matched_points([tall], tmp_path / "a.png", "Matches")
        gap = where(tmp_path / "a.png", PAPER)[HEAD : HEAD + PANEL, panel_left(0) + PANEL + 5]
        counted.append(int((np.diff(np.concatenate([[True], gap, [True]]).astype(int)) < 0).sum()))
    assert counted == [1, 20, MOST_LINES]
    many = row(photo, np.tile(column(MOST_LINES), (2, 1)), np.tile(column(MOST_LINES), (2, 1)))
    matched_points([many], tmp_path / "many.png", "Matches")
    assert (tmp_path / "many.png").exists()


def test_the_same_bytes_twice_no_metadata_and_a_sheet_that_grows_to_its_limit(tmp_path: Path, photo: Photo) -> None:
    sizes = []
    for count in (1, MOST_ROWS, MOST_ROWS + 3):
        for name in ("a", "b"):
            matched_points([row(photo)] * count, tmp_path / f"{name}.png", "Matches " * 60)
        assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
        with Image.open(tmp_path / "a.png") as image:
            assert (image.mode, image.info) == ("RGB", {})
            assert (np.asarray(image)[:, -MARGIN:] == 255).all()
            sizes.append(image.size)
    assert sizes[0][1] < sizes[1][1] == sizes[2][1]


def test_no_rows_give_a_sentence_and_wrong_points_an_error(
    tmp_path: Path, photo: Photo, share_of: Callable[[Path, str], float]
) -> None:
    matched_points([], tmp_path / "none.png", "Matches")
    assert 0.9 < share_of(tmp_path / "none.png", PAPER) < 0.999
    assert share_of(tmp_path / "none.png", QUIET) > 0
    for wrong in (np.zeros((2, 2)), np.zeros((1, 3))):
        with pytest.raises(ValueError, match=r"must be \[n, 2\] each"):
            matched_points([row(photo, ONE, wrong)], tmp_path / "a.png", "Matches")


def test_answers_are_drawn_with_the_points_of_their_step(tmp_path: Path, where: Where) -> None:
    """Query 8 is photo 0 seen askew, query 9 photo 1; 9 is answered with photo 2, and the third one finds nothing."""
    photos = {0: picture(0), 1: picture(1), 2: picture(2), 8: askew(picture(0)), 9: picture(1), 7: picture(3)}
    params = LocalFeaturesParams(size=200, max_features=300)
    extract = EXTRACTORS["sift"](params.max_features, 0.0)
    context = Context(features={params: lambda number: extract(reduced(photos[number], params.size))})
    found = Neighbours(
        np.array([[0], [2], [-1]]), np.array([[10], [12], [NONE]]), np.array([[0.9], [0.8], [-np.inf]], np.float32)
    )
    labels = np.array([10, 12, NONE])
    test = Judged(np.array([8, 9, 7]), np.array([10, 11, NONE]), labels, found.scores[:, 0], found)
    names = {10: "Arch", 11: "Tower", 12: "Dome"}

    def read(number: int) -> Image.Image:
        return Image.fromarray(photos[number])

    first = match_row(test, 0, build(params, context), names, read)
    assert len(first.query_points) == len(first.photo_points) > 15
    assert max(first.query.size) == max(first.photo.size) == 200
    assert (first.query_points < first.query.size).all()
    assert (first.caption, first.said, first.right) == ("shows Arch", "Arch\nscore 0.900", True)
    second = match_row(test, 1, build(params, context), names, read)
    assert (second.caption, second.said, second.right) == ("shows Tower", "Dome\nscore 0.800", False)
    draw_matches(test, params, context, names, read, tmp_path / "matches.png")
    assert where(tmp_path / "matches.png", RIGHT).sum() > 200
    with Image.open(tmp_path / "matches.png") as image:
        assert image.height == HEAD + 2 * (sheet.ROW_HEIGHT + sheet.ROW_GAP) + MARGIN - sheet.ROW_GAP
