"""The index against brute force, its choice by size, its order among equals, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest
from retrieval.made_entries import entries_table
from retrieval.made_index import made_index

from cairn.manifest import NONE
from cairn.retrieval.entries import ENTRIES_FILE, EntriesError, write_entries
from cairn.retrieval.index import (
    INDEX_FILE,
    PhotoIndex,
    PhotoIndexError,
    choose_type,
    empty_index,
    read_index,
    remove_photos,
    stored_vectors,
    write_index,
)

RNG = np.random.default_rng(0)


def units(rows: int, dimensions: int = 16) -> np.ndarray:
    vectors = RNG.normal(size=(rows, dimensions)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


VECTORS, QUERIES = units(500), units(20)
IDS = RNG.integers(-(2**63), 2**63, 500)
LANDMARKS = RNG.integers(0, 30, 500)
REFINED = "IVF8,PQ8x4fsr,Refine(SQfp16)"


@pytest.mark.parametrize("factory", ["Flat", "IVF8,Flat"])
def test_neighbours_are_those_of_brute_force(factory: str) -> None:
    index = PhotoIndex(made_index(VECTORS, IDS, factory, 8), IDS, LANDMARKS)
    found = index.search(QUERIES, 7)
    order = np.argsort(-(QUERIES @ VECTORS.T), axis=1)[:, :7]
    assert np.array_equal(found.image_ids, IDS[order])
    assert np.array_equal(found.landmark_ids, LANDMARKS[order])
    np.testing.assert_allclose(found.scores, np.take_along_axis(QUERIES @ VECTORS.T, order, 1), atol=1e-6)


def test_the_type_follows_the_size() -> None:
    assert choose_type(4_000, 256) == "Flat"
    assert choose_type(60_000, 256) == "SQfp16"
    assert choose_type(5_000_000, 512) == "IVF4096,PQ256x4fsr,Refine(SQfp16)"
    assert choose_type(5_000_000, 768) == "IVF4096,PQ192x4fsr,Refine(SQfp16)"
    assert choose_type(200_000, 190) == "IVF1024,PQ95x4fsr,Refine(SQfp16)"


def test_rows_are_filled_up_with_none() -> None:
    found = PhotoIndex(made_index(VECTORS[:2], IDS[:2]), IDS[:2], LANDMARKS[:2]).search(QUERIES, 5)
    assert (found.landmark_ids[:, 2:] == NONE).all()
    assert np.isneginf(found.scores[:, 2:]).all()


def test_equal_scores_are_ordered_by_image_id() -> None:
    same = np.repeat(VECTORS[:1], 4, axis=0)
    ids = np.array([9, -3, 5, 1])
    found = PhotoIndex(made_index(same, ids), ids, np.arange(4)).search(VECTORS[:1], 4)
    assert found.image_ids.tolist() == [[-3, 1, 5, 9]]
    assert found.landmark_ids.tolist() == [[1, 3, 2, 0]]


def write(folder: Path, rows: int, factory: str = "Flat") -> None:
    write_index(made_index(VECTORS, IDS, factory, 8), folder / INDEX_FILE)
    write_entries(folder / ENTRIES_FILE, entries_table(IDS[:rows], LANDMARKS[:rows]))


@pytest.mark.parametrize("factory", ["Flat", "SQfp16", "IVF8,SQfp16", "IVF8,PQ4", "HNSW8", "OPQ4,IVF8,PQ4", REFINED])
def test_mapped_from_files_it_answers_the_same(tmp_path: Path, factory: str) -> None:
    write(tmp_path, 500, factory)
    made = PhotoIndex(made_index(VECTORS, IDS, factory, 8), IDS, LANDMARKS).search(QUERIES, 5)
    opened = PhotoIndex.open(tmp_path).search(QUERIES, 5)
    assert np.array_equal(opened.image_ids, made.image_ids)
    assert np.array_equal(opened.landmark_ids, made.landmark_ids)
    assert np.array_equal(opened.scores, made.scores)


def test_the_same_index_has_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, 500)
    for file in (INDEX_FILE, ENTRIES_FILE):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_an_open_index_outlives_its_files(tmp_path: Path) -> None:
    """A server goes on with the index that it has mapped while another takes its place."""
    write(tmp_path, 500)
    opened = PhotoIndex.open(tmp_path)
    wanted = opened.search(QUERIES, 5)
    other = made_index(-VECTORS, IDS)
    faiss.write_index(other, str(tmp_path / "other"))
    (tmp_path / "other").replace(tmp_path / INDEX_FILE)
    assert np.array_equal(opened.search(QUERIES, 5).scores, wanted.scores)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(EntriesError, match=r"entries.arrow: no such file; run `dvc repro`"):
        PhotoIndex.open(tmp_path)
    write_entries(tmp_path / ENTRIES_FILE, entries_table(IDS, LANDMARKS))
    with pytest.raises(PhotoIndexError, match=r"index.faiss: no such file; run `dvc repro`"):
        PhotoIndex.open(tmp_path)
    (tmp_path / INDEX_FILE).write_bytes(b"no index")
    with pytest.raises(PhotoIndexError, match=r"index.faiss: FAISS cannot open it"):
        PhotoIndex.open(tmp_path)
    write(tmp_path, 499)
    with pytest.raises(PhotoIndexError, match="500 photos in the index, 499"):
        PhotoIndex.open(tmp_path)
    with pytest.raises(PhotoIndexError, match=r"index\.type = 'Flatt'"):
        empty_index(VECTORS.shape[1], "Flatt")


@pytest.mark.parametrize(
    ("factory", "near"),
    [
        ("Flat", 1e-6),
        ("SQfp16", 1e-3),
        ("IVF8,Flat", 1e-6),
        ("IVF8,SQfp16", 1e-3),
        ("OPQ4,Flat", 1e-5),
        ("HNSW8", 1e-6),
        (REFINED, 1e-3),
    ],
)
def test_stored_vectors_are_found_by_image_id(tmp_path: Path, factory: str, near: float) -> None:
    write(tmp_path, 500, factory)
    rows = np.array([17, 3, 499, 250])
    for mapped in (True, False):
        got = stored_vectors(read_index(tmp_path / INDEX_FILE, mapped), IDS[rows])
        np.testing.assert_allclose(got, VECTORS[rows], atol=near)


@pytest.mark.parametrize("factory", ["Flat", "SQfp16", "IVF8,SQfp16", "PCA16,Flat", REFINED])
def test_removed_photos_are_gone_and_the_others_as_before(tmp_path: Path, factory: str) -> None:
    write(tmp_path, 500, factory)
    index, gone = read_index(tmp_path / INDEX_FILE, mapped=False), np.arange(500) % 3 == 0
    wanted = PhotoIndex(index, IDS, LANDMARKS).search(QUERIES, 500)
    stored_vectors(index, IDS[:1])
    remove_photos(index, IDS[gone])
    got = PhotoIndex(index, IDS[~gone], LANDMARKS[~gone]).search(QUERIES, 300)
    for row in range(len(QUERIES)):
        kept = ~np.isin(wanted.image_ids[row], IDS[gone]) & (wanted.landmark_ids[row] != NONE)
        assert np.array_equal(got.image_ids[row], wanted.image_ids[row][kept][:300])
    with pytest.raises(PhotoIndexError, match="0 of 1 photos were in the index"):
        remove_photos(index, IDS[gone][:1])


@pytest.mark.parametrize("factory", ["HNSW8", "OPQ4,IVF8,PQ4"])
def test_removal_that_an_index_gets_wrong_is_refused(factory: str) -> None:
    """Behind an id map, inverted lists would remove one photo and forget another."""
    index = made_index(VECTORS, IDS, factory, 8)
    with pytest.raises(PhotoIndexError, match="cannot remove photos; set index"):
        remove_photos(index, IDS[:1])
    assert index.ntotal == 500
