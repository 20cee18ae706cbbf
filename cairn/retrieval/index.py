"""The FAISS index: its type chosen by size, built, saved, mapped into memory and searched. Ids in it are image ids."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from cairn.manifest import NONE
from cairn.retrieval.entries import ENTRIES_FILE, Entries
from cairn.retrieval.neighbours import Neighbours

INDEX_FILE = "index.faiss"

FLAT_UP_TO = 20_000  # photos; exact search takes milliseconds
SCALAR_UP_TO = 100_000
MOST_CODES = 256  # of a vector, whose sum of 8 bits each fits into the 16 that FAISS has for it
LISTS = 2  # times the root of the photos: as long to find the lists as to go through them


DEPTH = 10  # neighbours that `k_factor` is told for, and that recall is measured at
FEWEST = 2.0  # candidates for each neighbour wanted


class PhotoIndexError(ValueError):
    """An index that cannot be built or opened."""


def choose_type(rows: int, dimensions: int) -> str:
    """FAISS factory string for so many rows: exact while that is cheap, then fp16, then inverted lists.

    The lists hold codes of four bits for every two dimensions, which are compared many at a time (André et al. 2015,
    "Cache locality is not enough"), and the best of them are compared again by their fp16 vectors. A code for every
    four takes half the time to compare, but needs many more of the latter, which cost some 150 codes each.
    """
    if rows <= FLAT_UP_TO:
        return "Flat"
    if rows <= SCALAR_UP_TO:
        return "SQfp16"
    lists = 2 ** round(np.log2(LISTS * np.sqrt(rows)))
    together = 2 if dimensions <= 2 * MOST_CODES else 4
    return f"IVF{lists},PQ{dimensions // math.gcd(dimensions, together)}x4fsr,Refine(SQfp16)"


def empty_index(dimensions: int, factory: str) -> faiss.Index:
    """An inner-product index that takes photos with their ids; untrained, if its type needs training.

    Raises PhotoIndexError if FAISS does not know the factory string.
    """
    try:
        index = faiss.index_factory(dimensions, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise PhotoIndexError(f"index.type = {factory!r}: FAISS cannot make this ({error})") from error
    # IDMap2 would make a table of all ids at each opening.
    return index if isinstance(index, faiss.IndexIVF) else faiss.IndexIDMap(index)


def lists_of(index: faiss.Index) -> Any:  # FAISS's types do not know what lists have
    """The inverted lists in an index, a faiss.IndexIVF; none if it has none."""
    return faiss.try_extract_index_ivf(index)


def refined(index: faiss.Index) -> Any:
    """The faiss.IndexRefine, which compares the candidates of short codes by vectors; none if this index does not."""
    inner = faiss.downcast_index(index.index) if isinstance(index, faiss.IndexIDMap) else index
    return inner if isinstance(inner, faiss.IndexRefine) else None


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
    keys = _places(index, image_ids) if isinstance(index, faiss.IndexIDMap) else image_ids
    vectors = _by_key(index.index if isinstance(index, faiss.IndexIDMap) else index, keys)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def _places(index: faiss.IndexIDMap, image_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where an id map has photos that it holds; of a photo that came again, the last place."""
    known = faiss.vector_to_array(index.id_map)
    order = np.argsort(known, kind="stable")
    return np.asarray(order[np.searchsorted(known[order], image_ids, side="right") - 1], dtype=np.int64)


def _by_key(index: faiss.Index, keys: NDArray[np.int64]) -> NDArray[np.float32]:
    """Inverted lists find a photo by its number only through a table, which is made for the while."""
    lists = None if refined(index) else lists_of(index)
    if lists is not None:
        lists.set_direct_map_type(faiss.DirectMap.Hashtable)  # type: ignore[attr-defined]
    vectors: NDArray[np.float32] = index.reconstruct_batch(np.ascontiguousarray(keys, dtype=np.int64))
    if lists is not None:
        lists.set_direct_map_type(faiss.DirectMap.NoMap)  # type: ignore[attr-defined]
    return vectors


def size_of(index: faiss.Index) -> int:
    """How many photos can be found; where vectors lie beside lists, removed ones leave theirs behind."""
    return int(lists_of(index).invlists.compute_ntotal() if refined(index) else index.ntotal)


def remove_photos(index: faiss.Index, image_ids: NDArray[np.int64]) -> None:
    """Take photos int64 [n] out of an index that is not mapped.

    Raises PhotoIndexError if its type cannot do that, or if it does not hold each of them once.
    """
    if not _removes(index):
        raise PhotoIndexError(
            f"{type(faiss.downcast_index(_inner(index))).__name__} cannot remove photos; set index.type to one that "
            "can (Flat, SQfp16, IVF...), or to auto, and run the pipeline anew"
        )
    before = size_of(index)
    if isinstance(index, faiss.IndexIDMap) and refined(index):
        _remove_from_lists(index, image_ids)
    else:
        index.remove_ids(faiss.IDSelectorBatch(image_ids))
    if before - size_of(index) != len(image_ids):
        raise PhotoIndexError(f"{before - size_of(index)} of {len(image_ids)} photos were in the index; it is damaged")


def _remove_from_lists(index: faiss.IndexIDMap, image_ids: NDArray[np.int64]) -> None:
    """No list names the photos any more; their vectors stay, so that those behind them keep their places."""
    lists = lists_of(index)
    lists.remove_ids(faiss.IDSelectorBatch(np.flatnonzero(np.isin(faiss.vector_to_array(index.id_map), image_ids))))
    lists.ntotal = index.ntotal  # the next photo is numbered by it


def _inner(index: faiss.Index) -> faiss.Index:
    """The index that holds the vectors, out of id maps and transformations."""
    while isinstance(index, faiss.IndexIDMap | faiss.IndexPreTransform):
        index = faiss.downcast_index(index.index)
    return index


def _removes(index: faiss.Index) -> bool:
    """An id map believes that those behind a removed one move up, which is so in flat codes alone."""
    mapped, inner = isinstance(index, faiss.IndexIDMap), _inner(index)
    if isinstance(inner, faiss.IndexRefine):
        return isinstance(faiss.downcast_index(inner.base_index), faiss.IndexIVF)
    return isinstance(inner, faiss.IndexFlatCodes if mapped else faiss.IndexIVF)


def search(index: faiss.Index, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Cosines and image ids, both [queries, k], falling; ids are -1 behind the last one found.

    An index that refines looks at the same number of candidates whatever k is, as long as there are two for each.
    """
    refiner = refined(index)
    if refiner is None:
        return index.search(queries, k)  # type: ignore[no-any-return]
    factor = max(FEWEST, refiner.k_factor * DEPTH / k)
    looked = faiss.IndexRefineSearchParameters(k_factor=factor)  # type: ignore[call-arg]
    return index.search(queries, k, params=looked)  # type: ignore[no-any-return]


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
        if size_of(index) != len(entries):
            raise PhotoIndexError(f"{folder}: {size_of(index)} photos in the index, {len(entries)} in {ENTRIES_FILE}")
        return cls(index, entries.image_ids, entries.landmark_ids)

    @property
    def dimensions(self) -> int:
        """Of each vector."""
        return int(self._index.d)

    def __len__(self) -> int:
        return size_of(self._index)

    def search(self, queries: NDArray[np.float32], k: int) -> Neighbours:
        """The k nearest photos by cosine of each unit vector in `queries`, float32 [queries, dimensions].

        Rows are filled up with NONE where the index holds, or looks at, fewer than k photos.
        Equal scores are ordered by image id, so that an answer does not depend on the index's inner order.
        """
        scores, ids = search(self._index, np.ascontiguousarray(queries, dtype=np.float32), k)
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
