"""The FAISS index: its type chosen by size, built, saved, mapped into memory and searched. Ids in it are image ids."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from cairn.retrieval.entries import ENTRIES_FILE, Entries
from cairn.retrieval.neighbours import NONE, Neighbours

INDEX_FILE = "index.faiss"

FLAT_UP_TO = 20_000  # photos; exact search takes milliseconds
SCALAR_UP_TO = 100_000
ROWS_PER_LIST = 300


class PhotoIndexError(ValueError):
    """An index that cannot be built or opened."""


def choose_type(rows: int) -> str:
    """FAISS factory string for so many rows: exact while that is cheap, then fp16, then inverted lists of fp16."""
    if rows <= FLAT_UP_TO:
        return "Flat"
    if rows <= SCALAR_UP_TO:
        return "SQfp16"
    lists = 2 ** round(np.log2(rows / ROWS_PER_LIST))
    return f"IVF{lists},SQfp16"


def build_index(vectors: NDArray[np.float32], ids: NDArray[np.int64], factory: str, nprobe: int | None) -> faiss.Index:
    """An inner-product index over unit vectors [rows, dimensions], with ids [rows].

    Raises PhotoIndexError if FAISS does not know the factory string.
    """
    try:
        index = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise PhotoIndexError(f"index.type = {factory!r}: FAISS cannot make this ({error})") from error
    if not isinstance(index, faiss.IndexIVF):
        index = faiss.IndexIDMap(index)  # IDMap2 would make a table of all ids at each opening
    else:
        index.nprobe = nprobe or max(1, index.nlist // 16)
    index.train(vectors)
    index.add_with_ids(vectors, ids)
    return index


def write_index(index: faiss.Index, path: Path) -> None:
    """Write the index; the same index gives the same bytes."""
    faiss.write_index(index, str(path))


def read_index(path: Path, mapped: bool = True) -> faiss.Index:
    """Open a written index: mapped into memory to search it, not mapped to change it.

    Raises PhotoIndexError if it is missing or no index.
    """
    if not path.exists():
        raise PhotoIndexError(f"{path}: no such file; run `dvc repro`")
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC if mapped else 0)
    except RuntimeError as error:
        raise PhotoIndexError(f"{path}: FAISS cannot open it ({error}); run `dvc repro` to make it again") from error


def stored_vectors(index: faiss.Index, image_ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """Unit vectors float32 [n, dimensions] of photos that an index holds, as exact as it stores them."""
    if len(image_ids) == 0:
        return np.empty((0, index.d), dtype=np.float32)
    if isinstance(index, faiss.IndexIDMap):
        known = faiss.vector_to_array(index.id_map)
        order = np.argsort(known, kind="stable")
        rows = order[np.searchsorted(known[order], image_ids)]
        vectors = _with_direct_map(index.index, rows)
    else:
        vectors = _with_direct_map(index, image_ids)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def _with_direct_map(index: faiss.Index, keys: NDArray[np.int64]) -> NDArray[np.float32]:
    """Inverted lists find a photo by its number only through a table, which is made for the while."""
    lists = faiss.try_extract_index_ivf(index)
    if lists is not None:
        lists.set_direct_map_type(faiss.DirectMap.Hashtable)  # type: ignore[attr-defined]
    vectors: NDArray[np.float32] = index.reconstruct_batch(np.ascontiguousarray(keys, dtype=np.int64))
    if lists is not None:
        lists.set_direct_map_type(faiss.DirectMap.NoMap)  # type: ignore[attr-defined]
    return vectors


def remove_photos(index: faiss.Index, image_ids: NDArray[np.int64]) -> None:
    """Take photos int64 [n] out of an index that is not mapped.

    Raises PhotoIndexError if its type cannot do that, or if it does not hold each of them once.
    """
    if not _removes(index):
        raise PhotoIndexError(
            f"{type(faiss.downcast_index(_inner(index))).__name__} cannot remove photos; set index.type to one that "
            "can (Flat, SQfp16, IVF...), or to auto, and run the pipeline anew"
        )
    before = index.ntotal
    index.remove_ids(faiss.IDSelectorBatch(image_ids))
    if before - index.ntotal != len(image_ids):
        raise PhotoIndexError(f"{before - index.ntotal} of {len(image_ids)} photos were in the index; it is damaged")


def _inner(index: faiss.Index) -> faiss.Index:
    """The index that holds the vectors, out of id maps and transformations."""
    while isinstance(index, faiss.IndexIDMap | faiss.IndexPreTransform):
        index = faiss.downcast_index(index.index)
    return index


def _removes(index: faiss.Index) -> bool:
    """An id map believes that those behind a removed one move up, which is so in flat codes alone."""
    mapped, inner = isinstance(index, faiss.IndexIDMap), _inner(index)
    return isinstance(inner, faiss.IndexFlatCodes if mapped else faiss.IndexIVF)


def recall_against_flat(
    index: faiss.Index, vectors: NDArray[np.float32], ids: NDArray[np.int64], queries: NDArray[np.float32], k: int = 10
) -> float:
    """Share of the exact k nearest of `queries` [n, dimensions] that `index` finds too; 1 without queries."""
    if len(queries) == 0:
        return 1.0
    k = min(k, len(vectors))
    _, exact = faiss.knn(queries, vectors, k, metric=faiss.METRIC_INNER_PRODUCT)
    _, found = index.search(queries, k)
    hits = [len(np.intersect1d(ids[e], f)) for e, f in zip(exact, found, strict=True)]
    return float(np.mean(hits) / k)


class PhotoIndex:
    """An opened index with the landmark of each of its photos."""

    def __init__(self, index: faiss.Index, image_ids: NDArray[np.int64], landmark_ids: NDArray[np.int64]) -> None:
        """`image_ids` and `landmark_ids`, int64 [rows]: what each photo in `index` shows, in any order."""
        if (image_ids[1:] < image_ids[:-1]).any():
            order = np.argsort(image_ids, kind="stable")
            image_ids, landmark_ids = image_ids[order], landmark_ids[order]
        self._index, self._ids, self._landmarks = index, image_ids, landmark_ids

    @classmethod
    def open(cls, folder: Path) -> PhotoIndex:
        """Map what the index stage wrote. Raises PhotoIndexError if files are missing or do not belong together, and
        EntriesError as Entries.open does.
        """
        return cls.with_entries(folder, Entries.open(folder / ENTRIES_FILE))

    @classmethod
    def with_entries(cls, folder: Path, entries: Entries) -> PhotoIndex:
        """As `open`, with the folder's entries open already."""
        index = read_index(folder / INDEX_FILE)
        if index.ntotal != len(entries):
            raise PhotoIndexError(f"{folder}: {index.ntotal} photos in the index, {len(entries)} in {ENTRIES_FILE}")
        return cls(index, entries.image_ids, entries.landmark_ids)

    @property
    def dimensions(self) -> int:
        """Of each vector."""
        return int(self._index.d)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def search(self, queries: NDArray[np.float32], k: int) -> Neighbours:
        """The k nearest photos by cosine of each unit vector in `queries`, float32 [queries, dimensions].

        Rows are filled up with NONE where the index holds, or looks at, fewer than k photos.
        Equal scores are ordered by image id, so that an answer does not depend on the index's inner order.
        """
        scores, ids = self._index.search(np.ascontiguousarray(queries, dtype=np.float32), k)
        missing = np.isneginf(scores) | (scores <= -3e38)
        at = np.searchsorted(self._ids, ids).clip(0, max(0, len(self._ids) - 1))
        landmarks = np.where(missing, NONE, self._landmarks[at])
        scores = np.where(missing, np.float32(-np.inf), scores)
        order = np.lexsort((ids, -scores), axis=1)
        return Neighbours(
            np.take_along_axis(ids, order, 1).astype(np.int64),
            np.take_along_axis(landmarks, order, 1).astype(np.int64),
            np.take_along_axis(scores, order, 1).astype(np.float32),
        )
