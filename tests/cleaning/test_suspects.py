"""Doubted labels: known neighbours, known copies, and real features of made photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cleaning.test_clean import cleaned, settings
from harmful import encoded
from numpy.typing import NDArray
from PIL import Image

from cairn.cleaning.clean import CleaningError
from cairn.cleaning.geometry import doubts_by_geometry
from cairn.cleaning.neighbours import Doubts, Surroundings, doubts_by_neighbours, surroundings
from cairn.manifest import NONE, image_id_of, read_images
from cairn.params import CleanParams, NeighbourVoteParams
from cairn.pictures.suspects import draw_suspects
from cairn.sources.base import Photo, pack

VOTE = NeighbourVoteParams(k=4, min_share=0.5, rival_share=0.5, distractor_share=0.75)


def around(angles: list[float], labels: list[int], pairs: list[tuple[int, int]] | None = None) -> Surroundings:
    """Photos as unit vectors of a plane, by their angles in degrees: near in angle is near in cosine."""
    radians = np.deg2rad(angles)
    vectors = np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)
    return surroundings(vectors, np.array(labels), np.array(pairs or [], np.int64).reshape(-1, 2), VOTE.k)


def doubts(angles: list[float], labels: list[int], pairs: list[tuple[int, int]] | None = None) -> Doubts:
    return doubts_by_neighbours(around(angles, labels, pairs), VOTE)


def test_nearest_are_those_of_the_full_matrix_without_the_photo_itself() -> None:
    vectors = np.random.default_rng(0).normal(size=(150, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -2)
    found = surroundings(vectors, np.zeros(150, np.int64), np.zeros((0, 2), np.int64), 10).nearest
    assert found.shape == (150, 100)
    assert (found == np.argsort(-cosines, axis=1)[:, :100]).all()


def test_of_many_equal_photos_none_is_its_own_neighbour() -> None:
    equal = np.tile(np.array([[1, 0]], np.float32), (300, 1))
    found = surroundings(equal, np.zeros(300, np.int64), np.zeros((0, 2), np.int64), 4).nearest
    assert found.shape == (300, 100)
    assert not (found == np.arange(300)[:, None]).any()


def test_the_photo_among_those_of_another_landmark_is_doubted() -> None:
    angles, labels = [0, 1, 2, 3, 4, 90, 91, 92, 93, 94, 2.5], [1] * 5 + [2] * 6
    assert doubts(angles, labels) == {10: "0 of 4 nearest photos share its label, 4 show landmark 1"}


def test_an_odd_view_among_photos_of_many_landmarks_is_not_doubted() -> None:
    angles, labels = [0, 1, 2, 3, 90, 91, 92, 93, 1.5], [1, 2, 3, 4, 5, 5, 5, 5, 5]
    odd = around(angles, labels)
    assert 8 not in doubts_by_neighbours(odd, VOTE)
    assert doubts_by_neighbours(odd, VOTE.model_copy(update={"rival_share": 0.0}))[8] == (
        "0 of 4 nearest photos share its label, 1 show landmark 1"
    )


def test_a_landmark_photo_among_distractors_is_doubted() -> None:
    angles, labels = [0, 1, 2, 3, 1.5, 90, 91, 92, 93], [NONE] * 4 + [1] * 5
    assert doubts(angles, labels) == {4: "0 of 4 nearest photos share its label, 4 show no landmark"}


def test_near_duplicates_do_not_vouch_for_each_other() -> None:
    # Photos 5, 6 and 7 are one upload with the label of 8 to 11, among the photos of landmark 1.
    angles, labels = [0, 1, 2, 3, 4, 2.2, 2.25, 2.3, 90, 91, 92, 93, 94], [1] * 5 + [2] * 8
    copies = [(5, 6), (6, 7), (5, 7)]
    assert set(doubts(angles, labels, copies)) == {5, 6, 7}
    assert not set(doubts(angles, labels)) & {5, 6, 7}  # each has two of four


def test_near_duplicates_have_one_vote_together() -> None:
    near_one = around([0, 1, 1.1, 1.2, 5, 9], [1] * 6, [(1, 2), (2, 3), (1, 3)])
    assert near_one.voters(0, 4) == [1, 4, 5]
    assert near_one.voters(2, 4) == [0, 4, 5]


def test_a_landmark_of_few_photos_needs_no_more_than_there_are() -> None:
    # Of landmark 2 there are two photos side by side: one may vouch, and does.
    angles, labels = [0, 1, 2, 3, 4, 10, 10.5], [1] * 5 + [2] * 2
    assert doubts(angles, labels) == {}
    # A third of its photos that stands elsewhere has no friend among its nearest.
    assert set(doubts([*angles, -3, -1], [*labels, 2, 1])) == {7}


def test_where_nobody_else_could_vouch_nothing_is_said() -> None:
    assert doubts([0, 1, 2, 3, 4, 2.5, 2.6], [1] * 5 + [2] * 2, [(5, 6)]) == {}


def test_a_distractor_among_photos_of_one_landmark_is_doubted() -> None:
    angles, labels = [0, 1, 2, 3, 2.5, 90, 91, 92, 93, 91.5, 50], [1, 1, 1, 1, NONE, 2, 2, NONE, NONE, NONE, NONE]
    assert doubts(angles, labels) == {4: "4 of 4 nearest photos show landmark 1"}


# Photos of two made walls, turned and cut as a camera would, and the vectors of a network that knows nothing.

PIXELS = 220


def wall(seed: int) -> Image.Image:
    """A wall of coarse and fine marks: SIFT finds hundreds of features on it."""
    rng = np.random.default_rng(seed)
    layers = [Image.fromarray(rng.integers(0, 256, (n, n), dtype=np.uint8)).resize((320, 320)) for n in (20, 80)]
    return Image.blend(*layers, 0.5).convert("RGB")


def view(of: Image.Image, turn: float, zoom: float) -> bytes:
    edge = int(of.width * (1 - 1 / zoom) / 2)
    return encoded(of.rotate(turn, Image.Resampling.BICUBIC).crop((edge + 40, edge + 40, 280 - edge, 280 - edge)))


VIEWS = [(-8.0, 1.0), (-3.0, 1.1), (4.0, 1.05)]
FIRST, SECOND = wall(1), wall(2)
PHOTOS: dict[str, tuple[int | None, bytes]] = {
    **{f"1/{n}.png": (1, view(FIRST, *how)) for n, how in enumerate(VIEWS)},
    **{f"2/{n}.png": (2, view(SECOND, *how)) for n, how in enumerate(VIEWS)},
    "1/wrong.png": (1, view(SECOND, 1.0, 1.0)),
    "none/wall.png": (None, view(FIRST, 1.0, 1.0)),
    "none/else.png": (None, view(wall(3), 0.0, 1.0)),
}


def noisy(method: str, **changes: object) -> CleanParams:
    params = settings(**changes)
    near = params.near_duplicates.model_copy(update={"group_bits": -1, "drop_bits": -1, "group_cosine": 1.01})
    noise = params.label_noise
    votes = noise.neighbours.model_copy(update={"k": 4, "min_share": 0.5, "rival_share": 0.5, "distractor_share": 0.75})
    geometry = noise.geometry.model_copy(update={"size": PIXELS})
    label_noise = noise.model_copy(update={"method": method, "neighbours": votes, "geometry": geometry})
    return params.model_copy(
        update={"near_duplicates": near.model_copy(update={"drop_cosine": 1.01}), "label_noise": label_noise}
    )


def alike(images: pa.Table) -> NDArray[np.float32]:
    """Vectors that put every photo near every other, those of one label no nearer."""
    vectors = np.ones((images.num_rows, 8)) + np.random.default_rng(0).normal(size=(images.num_rows, 8)) / 100
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def misled(images: pa.Table) -> NDArray[np.float32]:
    """Vectors that put each photo beside those of its label, but four beside those of landmark 2."""
    angle = {1: 0.0, 2: 90.0}
    strange = {"none/else.png": 84.0, "1/wrong.png": 87.0, "1/0.png": 93.0, "none/wall.png": 180.0}
    names = zip(images["source_name"].to_pylist(), images["landmark_id"].to_pylist(), strict=True)
    degrees = [strange.get(name) or angle[label] + n / 100 for n, (name, label) in enumerate(names)]
    radians = np.deg2rad(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def packed(folder: Path) -> pa.Table:
    """The manifest of PHOTOS, packed into `folder`."""
    given = [Photo(image_id_of(name), content, label, name) for name, (label, content) in PHOTOS.items()]
    return pack(given, folder, 1.0).sort_by("image_id")


def listed(tmp_path: Path) -> dict[str, tuple[str, str]]:
    names = {image_id_of(name): name for name in PHOTOS}
    rows = pq.read_table(tmp_path / "out" / "suspects.parquet").to_pylist()
    assert [row["image_id"] for row in rows] == sorted(row["image_id"] for row in rows)
    return {names[row["image_id"]]: (row["method"], row["evidence"]) for row in rows}


def test_geometry_finds_the_wrong_label_and_the_distractor_that_shows_a_landmark(tmp_path: Path) -> None:
    result = cleaned(tmp_path, PHOTOS, noisy("geometry"), embed=alike)
    assert listed(tmp_path) == {
        "1/wrong.png": ("geometry", "0 of 8 nearest photos share its label and fit geometrically (3 share it)"),
        "none/wall.png": ("geometry", "2 of its nearest photos show landmark 1 and fit geometrically"),
    }
    assert result.dropped == 0
    assert result.suspects == {"landmark_photos": 1, "distractors": 1}
    assert read_images(tmp_path / "out").num_rows == len(PHOTOS)


def test_of_a_landmark_of_two_photos_that_fit_each_other_neither_is_doubted(tmp_path: Path) -> None:
    few = {name: photo for name, photo in PHOTOS.items() if name in ("1/0.png", "1/1.png") or name.startswith("2/")}
    params = noisy("geometry")
    assert params.label_noise.geometry.min_friends == 2
    result = cleaned(tmp_path, few, params, embed=alike)
    assert (result.kept, result.suspects) == (len(few), {"landmark_photos": 0, "distractors": 0})


def test_both_must_say_so(tmp_path: Path) -> None:
    by_neighbours, by_both = tmp_path / "neighbours", tmp_path / "both"
    for folder, method in ((by_neighbours, "neighbours"), (by_both, "both")):
        folder.mkdir()
        cleaned(folder, PHOTOS, noisy(method), embed=misled)
    assert set(listed(by_neighbours)) == {"1/wrong.png", "1/0.png", "none/wall.png", "none/else.png"}
    both = listed(by_both)
    assert set(both) == {"1/wrong.png", "none/wall.png"}  # the other two are what their labels say
    assert both["1/wrong.png"] == (
        "both",
        "0 of 4 nearest photos share its label, 3 show landmark 2; "
        "0 of 8 nearest photos share its label and fit geometrically (3 share it)",
    )


def test_any_number_of_workers_gives_the_same_doubts(tmp_path: Path) -> None:
    images = packed(tmp_path)
    labels = images["landmark_id"].fill_null(NONE).to_numpy()
    near = surroundings(alike(images), labels, np.zeros((0, 2), np.int64), 20)
    geometry = noisy("geometry").label_noise.geometry.model_copy(update={"neighbours": 3})
    one, two = (
        doubts_by_geometry(tmp_path, images, near, range(len(images)), geometry, workers, 100.0) for workers in (1, 2)
    )
    assert one == two
    assert one


def test_off_lists_nothing(tmp_path: Path) -> None:
    assert cleaned(tmp_path, PHOTOS, noisy("off")).suspects == {"landmark_photos": 0, "distractors": 0}
    assert listed(tmp_path) == {}


@pytest.mark.parametrize("method", ["neighbours", "geometry", "both"])
def test_without_a_network_the_param_and_the_way_out_are_named(tmp_path: Path, method: str) -> None:
    with pytest.raises(CleaningError, match=rf"clean\.label_noise\.method is {method}.*clean\.near_duplicates\.backb"):
        cleaned(tmp_path, PHOTOS, noisy(method))


def test_the_sheet_shows_suspects_by_landmark(tmp_path: Path) -> None:
    images = packed(tmp_path)
    landmarks = pa.table({"landmark_id": [1, 2], "name": ["Tower", "Gate"]})
    ids = [image_id_of(name) for name in ("1/0.png", "1/wrong.png", "none/wall.png")]
    heights = []
    for shown in (ids[:1], ids[:2], ids):
        suspects = pa.table({"image_id": shown, "evidence": ["said"] * len(shown)})
        draw_suspects(tmp_path, images, landmarks, suspects, settings(), tmp_path / "a.png")
        with Image.open(tmp_path / "a.png") as sheet:
            heights.append(sheet.height)
    assert heights[0] == heights[1] < heights[2]  # a row a landmark, and one for distractors
