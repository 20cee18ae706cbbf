"""The FAISS index: its type chosen by size, built, saved, opened and searched. Ids in it are image ids."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cairn.manifest import as_number
from cairn.retrieval.neighbours import NONE, Neighbours

INDEX_FILE = "index.faiss"
ENTRIES_FILE = "entries.parquet"  # image_id, landmark_id: one row per indexed photo, sorted by image id

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
        index = faiss.IndexIDMap2(index)
    else:
        index.nprobe = nprobe or max(1, index.nlist // 16)
    index.train(vectors)
    index.add_with_ids(vectors, ids)
    return index


def write_index(index: faiss.Index, path: Path) -> None:
    """Write the index; the same index gives the same bytes."""
    faiss.write_index(index, str(path))


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
        order = np.argsort(image_ids, kind="stable")
        self._index, self._ids, self._landmarks = index, image_ids[order], landmark_ids[order]

    @classmethod
    def open(cls, folder: Path) -> PhotoIndex:
        """Open what the index stage wrote. Raises PhotoIndexError if files are missing or do not belong together."""
        for name in (INDEX_FILE, ENTRIES_FILE):
            if not (folder / name).exists():
                raise PhotoIndexError(f"{folder / name}: no such file; run `dvc repro`")
        index = faiss.read_index(str(folder / INDEX_FILE))
        entries = pq.read_table(folder / ENTRIES_FILE)
        if index.ntotal != entries.num_rows:
            raise PhotoIndexError(f"{folder}: {index.ntotal} photos in the index, {entries.num_rows} in {ENTRIES_FILE}")
        ids = np.fromiter((as_number(i) for i in entries["image_id"].to_pylist()), np.int64, entries.num_rows)
        return cls(index, ids, entries["landmark_id"].to_numpy().astype(np.int64))

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
