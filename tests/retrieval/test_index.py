"""The index against brute force, its choice by size, its order among equals, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cairn.files import write_table
from cairn.manifest import as_image_id
from cairn.retrieval.index import (
    ENTRIES_FILE,
    INDEX_FILE,
    PhotoIndex,
    PhotoIndexError,
    build_index,
    choose_type,
    recall_against_flat,
    write_index,
)
from cairn.retrieval.neighbours import NONE

RNG = np.random.default_rng(0)


def units(rows: int, dimensions: int = 16) -> np.ndarray:
    vectors = RNG.normal(size=(rows, dimensions)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


VECTORS, QUERIES = units(500), units(20)
IDS = RNG.integers(-(2**63), 2**63, 500)
LANDMARKS = RNG.integers(0, 30, 500)


@pytest.mark.parametrize("factory", ["Flat", "IVF8,Flat"])
def test_neighbours_are_those_of_brute_force(factory: str) -> None:
    index = PhotoIndex(build_index(VECTORS, IDS, factory, nprobe=8), IDS, LANDMARKS)
    found = index.search(QUERIES, 7)
    order = np.argsort(-(QUERIES @ VECTORS.T), axis=1)[:, :7]
    assert np.array_equal(found.image_ids, IDS[order])
    assert np.array_equal(found.landmark_ids, LANDMARKS[order])
    np.testing.assert_allclose(found.scores, np.take_along_axis(QUERIES @ VECTORS.T, order, 1), atol=1e-6)


def test_the_type_follows_the_size() -> None:
    assert choose_type(4_000) == "Flat"
    assert choose_type(60_000) == "SQfp16"
    assert choose_type(5_000_000) == "IVF16384,SQfp16"


def test_rows_are_filled_up_with_none() -> None:
    found = PhotoIndex(build_index(VECTORS[:2], IDS[:2], "Flat", None), IDS[:2], LANDMARKS[:2]).search(QUERIES, 5)
    assert (found.landmark_ids[:, 2:] == NONE).all()
    assert np.isneginf(found.scores[:, 2:]).all()


def test_equal_scores_are_ordered_by_image_id() -> None:
    same = np.repeat(VECTORS[:1], 4, axis=0)
    ids = np.array([9, -3, 5, 1])
    found = PhotoIndex(build_index(same, ids, "Flat", None), ids, np.arange(4)).search(VECTORS[:1], 4)
    assert found.image_ids.tolist() == [[-3, 1, 5, 9]]
    assert found.landmark_ids.tolist() == [[1, 3, 2, 0]]


def test_recall_counts_what_the_exact_search_finds() -> None:
    assert recall_against_flat(build_index(VECTORS, IDS, "Flat", None), VECTORS, IDS, QUERIES) == 1.0
    coarse = build_index(VECTORS, IDS, "IVF64,Flat", nprobe=1)
    found = PhotoIndex(coarse, IDS, LANDMARKS).search(QUERIES, 10)
    exact = IDS[np.argsort(-(QUERIES @ VECTORS.T), axis=1)[:, :10]]
    shared = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.image_ids, exact, strict=True)])
    assert recall_against_flat(coarse, VECTORS, IDS, QUERIES) == pytest.approx(shared)
    assert shared < 1


def write(folder: Path, rows: int) -> None:
    write_index(build_index(VECTORS, IDS, "Flat", None), folder / INDEX_FILE)
    names = [as_image_id(i) for i in IDS.tolist()]
    write_table(folder / ENTRIES_FILE, pa.table({"image_id": names[:rows], "landmark_id": LANDMARKS[:rows]}))


def test_opened_from_files_it_answers_the_same(tmp_path: Path) -> None:
    write(tmp_path, 500)
    made = PhotoIndex(build_index(VECTORS, IDS, "Flat", None), IDS, LANDMARKS).search(QUERIES, 5)
    opened = PhotoIndex.open(tmp_path).search(QUERIES, 5)
    assert np.array_equal(opened.image_ids, made.image_ids)
    assert np.array_equal(opened.landmark_ids, made.landmark_ids)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(PhotoIndexError, match="dvc repro"):
        PhotoIndex.open(tmp_path)
    write(tmp_path, 499)
    with pytest.raises(PhotoIndexError, match="500 photos in the index, 499"):
        PhotoIndex.open(tmp_path)
    with pytest.raises(PhotoIndexError, match=r"index\.type = 'Flatt'"):
        build_index(VECTORS, IDS, "Flatt", None)
