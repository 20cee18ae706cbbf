"""Indexes made in parts, against FAISS's own way of adding all photos to one."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from cairn.retrieval import building
from cairn.retrieval.building import build, changed
from cairn.retrieval.index import (
    INDEX_FILE,
    PhotoIndex,
    empty_index,
    lists_of,
    read_index,
    refined,
    remove_photos,
    search,
    stored_vectors,
    write_index,
)
from cairn.retrieval.tuning import CANDIDATES, exact_nearest, held_photos, recall_of, set_effort, tune, without

RNG = np.random.default_rng(0)
PHOTOS, DIMENSIONS, PART = 2600, 16, 700
REFINED = "IVF8,PQ4x4fsr,Refine(SQfp16)"


def units(rows: int) -> np.ndarray:
    vectors = RNG.normal(size=(rows, DIMENSIONS)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


VECTORS, QUERIES = units(PHOTOS + 400), units(30)
ROWS = np.sort(RNG.permutation(PHOTOS + 400)[:PHOTOS])
IDS = RNG.permutation(np.unique(RNG.integers(-(2**63), 2**63, PHOTOS)))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "PART", PART)
    monkeypatch.setattr(building, "ROWS", 300)


def built(keep: Path, factory: str) -> bytes:
    keep.mkdir(exist_ok=True)
    write_index(build(VECTORS, ROWS, IDS, factory, 1, keep), keep / INDEX_FILE)
    return (keep / INDEX_FILE).read_bytes()


@pytest.mark.parametrize("factory", ["Flat", "SQfp16", "IVF8,SQfp16", "IVF8,PQ4x4fsr", REFINED])
def test_parts_have_the_bytes_of_the_whole(tmp_path: Path, factory: str) -> None:
    whole = empty_index(DIMENSIONS, factory)
    whole.train(VECTORS[ROWS])
    whole.add_with_ids(VECTORS[ROWS], IDS)
    write_index(whole, tmp_path / "whole")
    assert built(tmp_path / "keep", factory) == (tmp_path / "whole").read_bytes()


@pytest.mark.parametrize("part", [32, 320, 321, 31, 1])
def test_blocks_that_are_full_or_not_where_parts_meet(
    tmp_path: Path, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One list of blocks of 32 photos, which end where a part ends, or within it; FAISS's merging crashed on these."""
    monkeypatch.setattr(building, "PART", part)
    test_parts_have_the_bytes_of_the_whole(tmp_path, "IVF1,PQ4x4fsr")


@pytest.mark.parametrize("left", ["part_0000000700.faiss", "trained.faiss", "refining.faiss"])
def test_a_killed_build_goes_on_to_the_same_bytes(tmp_path: Path, left: str) -> None:
    wanted = built(tmp_path / "keep", REFINED)
    kept = sorted(path.name for path in (tmp_path / "keep").iterdir() if path.name != INDEX_FILE)
    assert kept == ["part_0000000000.faiss", *(f"part_000000{n}.faiss" for n in ("0700", "1400", "2100")), *kept[-2:]]
    (tmp_path / "keep" / left).unlink()
    others = {name: (tmp_path / "keep" / name).stat().st_mtime_ns for name in kept if name != left}
    assert built(tmp_path / "keep", REFINED) == wanted
    assert others == {name: (tmp_path / "keep" / name).stat().st_mtime_ns for name in others}


def test_large_ones_are_trained_on_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lists do not depend on photos that the seed did not draw."""
    monkeypatch.setattr(building, "LEAST_SAMPLE", 10)
    drawn = np.random.default_rng(1).permutation(ROWS)[: 8 * building.SAMPLE]
    changed = VECTORS.copy()
    changed[np.setdiff1d(ROWS, drawn)] *= -1
    for name, vectors in (("a", VECTORS), ("b", changed)):
        (tmp_path / name).mkdir()
        build(vectors, ROWS, IDS, REFINED, 1, tmp_path / name)
    assert (tmp_path / "a" / "trained.faiss").read_bytes() == (tmp_path / "b" / "trained.faiss").read_bytes()


def test_exact_neighbours_are_those_of_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cairn.retrieval.tuning.ROWS", 300)
    got = exact_nearest(VECTORS, ROWS, IDS, QUERIES, 10)
    assert np.array_equal(got, IDS[np.argsort(-(QUERIES @ VECTORS[ROWS].T), axis=1)[:, :10]])


def test_recall_is_the_share_of_the_nearest() -> None:
    assert recall_of(np.array([[1, 2, 3], [7, 8, 9]]), np.array([[3, 1], [4, 9]])) == 3 / 4
    assert recall_of(np.empty((0, 3), dtype=np.int64), np.empty((0, 2), dtype=np.int64)) == 1


@pytest.mark.parametrize("factory", ["IVF64,SQfp16", "IVF64,PQ4x4fsr,Refine(SQfp16)"])
def test_an_index_looks_as_hard_as_the_recall_asks_for(tmp_path: Path, factory: str) -> None:
    index = build(VECTORS, ROWS, IDS, factory, 1, tmp_path)
    held = held_photos(VECTORS, ROWS, IDS, 1)
    assert not (held.nearest == held.own[:, None]).any()
    assert len(held.nearest[0]) == 10
    low, high = (tune(index, held, wanted, None) for wanted in (0.6, 0.97))
    assert 0.6 <= low.recall_of_own_photos < 0.97 <= high.recall_of_own_photos
    assert low.nprobe < high.nprobe <= 64
    assert lists_of(index).nprobe == high.nprobe
    for effort, wanted in ((low, 0.6), (high, 0.97)):  # the fewest lists that suffice, to a sixteenth
        set_effort(index, effort.nprobe - max(1, effort.nprobe // 16), effort.candidates)
        fewer = without(search(index, held.queries, 11)[1], held.own, 10)
        assert recall_of(fewer, held.nearest) < wanted
    set_effort(index, high.nprobe, high.candidates)
    found = search(index, QUERIES, 10)[1]
    assert recall_of(found, exact_nearest(VECTORS, ROWS, IDS, QUERIES, 10)) > 0.93
    assert tune(index, held, 0.97, 5).nprobe == 5


@pytest.mark.parametrize(
    ("factory", "candidates"), [("IVF16,PQ4x4fsr", (None,)), ("IVF16,PQ4x4fsr,Refine(SQfp16)", CANDIDATES)]
)
def test_where_nothing_suffices_the_best_recall_is_taken(
    tmp_path: Path, factory: str, candidates: tuple[int | None, ...]
) -> None:
    index = build(VECTORS, ROWS, IDS, factory, 1, tmp_path)
    held = held_photos(VECTORS, ROWS, IDS, 1)

    def recall() -> float:
        return recall_of(without(search(index, held.queries, 11)[1], held.own, 10), held.nearest)

    recalls = []
    for nprobe, some in product((1, 2, 3, 4, 6, 8, 12, 16), candidates):
        set_effort(index, nprobe, some)
        recalls.append(recall())
    effort = tune(index, held, 1.1, None)
    assert effort.recall_of_own_photos == recall() == max(recalls) > min(recalls)


def test_the_effort_is_kept_in_the_file(tmp_path: Path) -> None:
    index = build(VECTORS, ROWS, IDS, REFINED, 1, tmp_path)
    effort = tune(index, held_photos(VECTORS, ROWS, IDS, 1), 0.95, None)
    write_index(index, tmp_path / INDEX_FILE)
    opened = read_index(tmp_path / INDEX_FILE)
    assert lists_of(opened).nprobe == effort.nprobe
    assert refined(opened).k_factor * 10 == effort.candidates
    made, again = (PhotoIndex(each, np.sort(IDS), np.zeros(PHOTOS, dtype=np.int64)) for each in (index, opened))
    for k in (1, 10, 300):
        assert np.array_equal(made.search(QUERIES, k).image_ids, again.search(QUERIES, k).image_ids)


@pytest.mark.parametrize("factory", ["Flat", "IVF8,SQfp16", REFINED, "IVF8,PQ4x4fsr,RFlat"])
def test_photos_come_after_others_went(tmp_path: Path, factory: str) -> None:
    """Twice, since a version may be made of a version; FAISS's own adding is the measure of what comes."""
    index = empty_index(DIMENSIONS, factory)
    index.train(VECTORS[ROWS])
    index.add_with_ids(VECTORS[:500], IDS[:500])
    if lists_of(index):
        set_effort(index, 8, 400)
    write_index(index, tmp_path / "0")
    for number, (gone, new) in enumerate([(np.arange(100, 200), np.arange(500, 600)), (ROWS[:0], np.array([100]))]):
        (tmp_path / f"keep_{number}").mkdir()
        made = changed(tmp_path / str(number), IDS[gone], VECTORS[new], IDS[new], tmp_path / f"keep_{number}")
        write_index(made, tmp_path / str(number + 1))
        remove_photos(index, IDS[gone])
        index.add_with_ids(VECTORS[new], IDS[new])
    opened = read_index(tmp_path / "2")
    held = np.concatenate([np.arange(101), np.arange(200, 600)])
    photos = PhotoIndex(opened, np.sort(IDS[:600]), np.zeros(600, dtype=np.int64))
    assert len(photos) == len(held)
    assert np.array_equal(photos.search(VECTORS[held], 1).image_ids[:, 0], IDS[held])
    assert np.array_equal(search(opened, QUERIES, 300)[1], search(index, QUERIES, 300)[1])
    np.testing.assert_allclose(stored_vectors(opened, IDS[held]), VECTORS[held], atol=1e-3)
    assert not np.isin(photos.search(VECTORS[100:200], 100).image_ids, IDS[101:200]).any()
