"""The embedded data: the counts asked for, the same bytes every time, and flaws that are what they are said to be."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import imagehash
import numpy as np
import pytest
from PIL import Image

from cairn.manifest import IMAGES
from cairn.params import SyntheticParams
from cairn.photos import DecodeError, decode
from cairn.shards import ShardReader
from cairn.sources import synthetic
from cairn.sources.base import Fetched, SourceError
from cairn.sources.synthetic import SyntheticSource
from cairn.sources.synthetic.plan import Shot, class_sizes, plan
from cairn.sources.synthetic.renderer import look, project
from cairn.sources.synthetic.solids import Mesh

PARAMS = SyntheticParams(
    landmarks=8,
    images=100,
    distractors=12,
    exact_duplicates=5,
    near_duplicates=6,
    broken=7,
    mislabelled=4,
    size=96,
)


def made(folder: Path, params: SyntheticParams = PARAMS, seed: int = 1) -> Fetched:
    folder.mkdir()
    return SyntheticSource(params, 1.0, seed).fetch(folder, folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("synthetic") / "raw"


@pytest.fixture(scope="module")
def fetched(folder: Path) -> Fetched:
    return made(folder)


@pytest.fixture(scope="module")
def contents(folder: Path, fetched: Fetched) -> list[bytes]:
    """The photos in the order in which they were planned."""
    rows = fetched.images.select(["shard", "offset", "size"]).to_pylist()
    with ShardReader(folder) as reader:
        return [reader.read(row["shard"], row["offset"], row["size"]) for row in rows]


def shots(kind: str) -> list[Shot]:
    return [shot for shot in plan(PARAMS, 1) if shot.kind == kind]


def test_the_counts_are_those_asked_for(fetched: Fetched) -> None:
    assert fetched.images.num_rows == 100 + 12 + 5 + 6 + 7
    assert fetched.images.schema.equals(IMAGES)
    assert fetched.landmarks.num_rows == 8
    assert len(set(fetched.landmarks["name"].to_pylist())) == 8
    assert fetched.facts == PARAMS.model_dump(exclude={"size"}) | {"files": 130}
    kinds = Counter(shot.kind for shot in plan(PARAMS, 1))
    assert kinds == {"landmark": 100, "distractor": 12, "exact_duplicate": 5, "near_duplicate": 6, "broken": 7}


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(tmp_path: Path) -> None:
    small = PARAMS.model_copy(update={"landmarks": 3, "images": 12, "distractors": 3, "mislabelled": 1})
    for name, seed in (("one", 1), ("two", 1), ("other", 2)):
        made(tmp_path / name, small, seed)
    one, two, other = ((tmp_path / name / "shard_00000.tar").read_bytes() for name in ("one", "two", "other"))
    assert one == two
    assert one != other


def test_broken_ones_do_not_decode_and_all_others_do(contents: list[bytes]) -> None:
    undecodable = []
    for number, content in enumerate(contents):
        try:
            assert max(decode(content, 1000, 10).size) == PARAMS.size or number >= 100
        except DecodeError:
            undecodable.append(number)
    assert undecodable == [shot.number for shot in shots("broken")]


def test_exact_duplicates_have_equal_bytes_and_nothing_else_has(contents: list[bytes]) -> None:
    for shot in shots("exact_duplicate"):
        assert shot.original is not None
        assert contents[shot.number] == contents[shot.original]
    whole = [content for content, shot in zip(contents, plan(PARAMS, 1), strict=True) if shot.kind != "broken"]
    assert len(whole) - len(set(whole)) == len(shots("exact_duplicate"))


def test_near_duplicates_are_near_but_not_equal(contents: list[bytes]) -> None:
    def phash(number: int) -> imagehash.ImageHash:
        return imagehash.phash(decode(contents[number], 1000, 10))

    for shot in shots("near_duplicate"):
        assert shot.original is not None
        assert contents[shot.number] != contents[shot.original]
        assert phash(shot.number) - phash(shot.original) <= 20
    strangers = [phash(a) - phash(a + 1) for a in range(0, 90, 3)]
    assert np.median(strangers) > 20


def test_so_many_labels_are_wrong_and_no_more(fetched: Fetched) -> None:
    wrong = [shot for shot in shots("landmark") if shot.shows != shot.label]
    assert len(wrong) == PARAMS.mislabelled
    assert fetched.images["landmark_id"].to_pylist() == [shot.label for shot in plan(PARAMS, 1)]


def test_a_photo_is_of_what_its_shot_shows_whatever_the_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Mesh] = []

    def recorded(mesh: Mesh, rng: np.random.Generator, size: int) -> Image.Image:
        seen.append(mesh)
        return Image.new("RGB", (size, size))

    monkeypatch.setattr(synthetic, "photograph", recorded)
    source, landmarks = SyntheticSource(PARAMS, 1.0, 1), synthetic.design(PARAMS.landmarks, 1)
    taken = [shot for shot in shots("landmark") if shot.shows is not None]
    for shot in taken:
        source._picture(shot, landmarks)
    assert len(taken) == PARAMS.images
    assert [id(mesh) for mesh in seen] == [id(landmarks[shot.shows or 0].mesh) for shot in taken]


def test_the_target_is_in_the_middle_and_what_is_above_it_is_higher() -> None:
    camera = look(np.array([3.0, -8.0, 2.0]), np.array([0.0, 0.0, 1.0]), 0.0, 0.8, 120, 80)
    points, depth = project(camera, np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 2.0]]))
    assert points[0] == pytest.approx([camera.width / 2, camera.height / 2], abs=1)
    assert depth[0] == pytest.approx(np.sqrt(9 + 64 + 1))
    assert points[1][0] == pytest.approx(points[0][0], abs=1)
    assert points[1][1] < points[0][1]


def test_class_sizes_have_a_long_tail_and_add_up() -> None:
    sizes = class_sizes(40, 1200, np.random.default_rng(0))
    assert sizes.sum() == 1200
    assert sizes.min() >= 4
    assert sizes.max() > 5 * np.median(sizes)


def test_counts_that_cannot_be_met_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"fetch\.synthetic\.images = 8"):
        made(tmp_path / "few", PARAMS.model_copy(update={"landmarks": 9, "images": 8}))
