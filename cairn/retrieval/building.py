"""An index of millions: trained on a sample, photos added part by part, the parts joined. Never all vectors at once.

A part is a file of its own that depends on the trained index and its own photos alone: a killed build goes on with the
parts that are there, and several machines may make some each.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from cairn.files import written_aside
from cairn.progress import progress
from cairn.retrieval.index import empty_index, lists_of, read_index, refined, remove_photos, write_index
from cairn.retrieval.vectors import ROWS, UnitVectors

SAMPLE = 40  # vectors a list to train on; FAISS warns under 39
LEAST_SAMPLE = 10_000  # for the short codes
PART = 250_000  # photos
TRAINED_FILE = "trained.faiss"
REFINING_FILE = "refining.faiss"
LENGTH = struct.Struct("<Q")  # of an array in FAISS's files


def build(
    vectors: UnitVectors, rows: NDArray[np.int64], ids: NDArray[np.int64], factory: str, seed: int, keep: Path
) -> faiss.Index:
    """An inner-product index of the vectors at `rows`, int64 [n], with image ids [n].

    Inverted lists are made in parts, files in `keep` that are not made again; the index is the same either way. The
    vectors that refine their answers stay in a file there. Other types are made at once. Raises PhotoIndexError if
    FAISS does not know the factory string.
    """
    index = empty_index(vectors.shape[1], factory)
    refiner = refined(index)
    lists: Any = index if refiner is None else faiss.downcast_index(refiner.base_index)
    if not isinstance(lists, faiss.IndexIVF):
        return _at_once(index, vectors, rows, ids)
    trained = keep / TRAINED_FILE
    if not trained.exists():
        train(lists, vectors, rows, seed, trained)
    numbers = ids if refiner is None else np.arange(len(rows))  # an index that refines knows photos by their places
    parts = [keep / f"part_{start:010}.faiss" for start in range(0, len(rows), PART)]
    bar: tqdm[None]
    with progress((), "add photos", total=len(rows)) as bar:
        for start, part in zip(range(0, len(rows), PART), parts, strict=True):
            some = slice(start, start + PART)
            if not part.exists():
                add_part(trained, vectors, rows[some], numbers[some], part)
            bar.update(len(rows[some]))
    joined: faiss.Index = join(trained, parts)
    if refiner is None:
        return joined
    refining = keep / REFINING_FILE
    if not refining.exists():
        empty: Any = faiss.downcast_index(refiner.refine_index)
        write_refining(refining, empty, len(rows), _codes_of(empty, vectors, rows))
    return _with_refining(joined, refining, ids)


def _at_once(index: faiss.Index, vectors: UnitVectors, rows: NDArray[np.int64], ids: NDArray[np.int64]) -> faiss.Index:
    if not index.is_trained:
        index.train(vectors[rows])
    for start in range(0, len(rows), ROWS):
        some = slice(start, start + ROWS)
        index.add_with_ids(vectors[rows[some]], ids[some])
    return index


def train(lists: faiss.IndexIVF, vectors: UnitVectors, rows: NDArray[np.int64], seed: int, path: Path) -> None:
    """Train empty lists on a sample of `rows` that `seed` draws, and write them."""
    size = max(SAMPLE * lists.nlist, LEAST_SAMPLE)
    sample = np.sort(np.random.default_rng(seed).permutation(rows)[:size])
    lists.train(vectors[sample])
    with written_aside(path) as aside:
        write_index(lists, aside)


def add_part(
    trained: Path, vectors: UnitVectors, rows: NDArray[np.int64], numbers: NDArray[np.int64], path: Path
) -> None:
    """Write the lists that `train` wrote with the photos at `rows` in them, known by `numbers`, both int64 [n]."""
    lists = read_index(trained, mapped=False)
    for start in range(0, len(rows), ROWS):
        some = slice(start, start + ROWS)
        lists.add_with_ids(vectors[rows[some]], numbers[some])
    with written_aside(path) as aside:
        write_index(lists, aside)


def join(trained: Path, parts: Sequence[Path]) -> Any:
    """The lists of all parts, in their order: as if all photos had been added to one."""
    joined: Any = read_index(trained, mapped=False)
    lists: Any = faiss.downcast_InvertedLists(joined.invlists)
    sizes = np.sum([_list_sizes(read_index(part)) for part in parts], axis=0)
    for number, size in enumerate(sizes.tolist()):  # at once: they would grow by doubling
        lists.resize(number, size)
    if isinstance(lists, faiss.BlockInvertedLists):  # type: ignore[attr-defined]
        filled = np.zeros_like(sizes)
        for part in parts:
            filled += _put(lists, filled, read_index(part, mapped=False))
        joined.ntotal = int(sizes.sum())
        return joined
    for number in range(lists.nlist):
        lists.resize(number, 0)
    for part in parts:
        joined.merge_from(read_index(part, mapped=False), 0)
    return joined


def _list_sizes(lists: Any) -> NDArray[np.int64]:
    return np.array([lists.invlists.list_size(number) for number in range(lists.nlist)])


def _put(lists: Any, filled: NDArray[np.int64], part: Any) -> NDArray[np.int64]:
    """Put a part's photos behind the first `filled` of each list, which has room for them; how many these were.

    The lists keep photos in blocks, which FAISS's own merging (1.15) writes beyond, where a list's last block is full.
    """
    more, sizes = faiss.downcast_InvertedLists(part.invlists), _list_sizes(part)
    for number in np.flatnonzero(sizes).tolist():
        start, size = int(filled[number]), int(sizes[number])
        ids = faiss.rev_swig_ptr(lists.get_ids(number), start + size)
        ids[start:] = faiss.rev_swig_ptr(more.get_ids(number), size)
        block, used = divmod(start, lists.n_per_block)
        old = _codes(lists, number, block, 1 if used else 0)[:used]
        new = _codes(more, number, 0, -(-size // lists.n_per_block))[:size]
        _set_codes(lists, number, block, np.concatenate([old, new]))
    return sizes


def _codes(lists: Any, number: int, first: int, count: int) -> NDArray[np.uint8]:
    """The codes in some blocks of a list, uint8 [count * photos of a block, bytes], those of its unused places too."""
    codes = np.empty((count, lists.n_per_block, lists.packer.code_size), np.uint8)
    blocks = faiss.rev_swig_ptr(lists.get_codes(number), (first + count) * lists.block_size)
    for at in range(count):
        lists.packer.unpack_all(faiss.swig_ptr(blocks[(first + at) * lists.block_size :]), faiss.swig_ptr(codes[at]))
    return codes.reshape(-1, codes.shape[2])


def _set_codes(lists: Any, number: int, first: int, codes: NDArray[np.uint8]) -> None:
    """Make `codes`, uint8 [photos, bytes], those of a list from a block on; unused places of the last block are 0."""
    count = -(-len(codes) // lists.n_per_block)
    padded = np.zeros((count, lists.n_per_block, codes.shape[1]), np.uint8)
    padded.reshape(-1, codes.shape[1])[: len(codes)] = codes
    blocks = faiss.rev_swig_ptr(lists.get_codes(number), (first + count) * lists.block_size)
    for at in range(count):
        lists.packer.pack_all(faiss.swig_ptr(padded[at]), faiss.swig_ptr(blocks[(first + at) * lists.block_size :]))


def write_refining(path: Path, empty: faiss.IndexFlatCodes, photos: int, codes: Iterable[NDArray[np.uint8]]) -> None:
    """Write the flat codes of so many photos, uint8 [any, bytes] at a time, as FAISS does, but as they come.

    A file of flat codes ends with their number of bytes and the codes.
    """
    empty.ntotal = photos
    with written_aside(path) as aside:
        write_index(empty, aside)
        with aside.open("r+b") as file:
            file.seek(-LENGTH.size, os.SEEK_END)
            file.write(LENGTH.pack(photos * empty.code_size))
            for some in codes:
                file.write(some.data)
    empty.ntotal = 0


def _codes_of(
    empty: faiss.IndexFlatCodes, vectors: UnitVectors, rows: NDArray[np.int64]
) -> Iterator[NDArray[np.uint8]]:
    return (empty.sa_encode(vectors[rows[start : start + ROWS]]) for start in range(0, len(rows), ROWS))


def _with_refining(lists: faiss.Index, refining: Path, ids: NDArray[np.int64]) -> faiss.IndexIDMap:
    """Lists of places and the written vectors, which stay on disk, as one index of image ids int64 [n]."""
    index = faiss.IndexRefine(lists, read_index(refining))
    # An id map may only be laid over an index without photos.
    index.ntotal = 0
    mapped = faiss.IndexIDMap(index)
    mapped.ntotal = index.ntotal = len(ids)
    faiss.copy_array_to_vector(ids, mapped.id_map)
    return mapped


def changed(
    path: Path, removed: NDArray[np.int64], vectors: NDArray[np.float32], ids: NDArray[np.int64], keep: Path
) -> faiss.Index:
    """The index at `path` without the photos `removed`, and with unit vectors [n, dimensions] of photos `ids` [n].

    Scalar-quantised vectors that refine answers are not read into memory: with the new ones they go to a file in
    `keep`, which the index needs from then on. Raises PhotoIndexError as `remove_photos` does.
    """
    mapped = read_index(path)
    refiner = refined(mapped)
    old: Any = faiss.downcast_index(refiner.refine_index) if refiner else None
    apart = isinstance(old, faiss.IndexScalarQuantizer)
    index = mapped if apart else read_index(path, mapped=False)
    if len(removed):
        remove_photos(index, removed)
    if not apart and len(ids):
        index.add_with_ids(vectors, ids)
    if not apart or not len(ids):
        return index
    known = faiss.vector_to_array(index.id_map)  # type: ignore[attr-defined]
    lists_of(index).add_with_ids(vectors, np.arange(len(known), len(known) + len(ids)))
    empty = faiss.IndexScalarQuantizer(old.d, old.sq.qtype, old.metric_type)
    codes = faiss.rev_swig_ptr(old.codes.data(), old.codes.size())
    write_refining(keep / REFINING_FILE, empty, len(known) + len(ids), (codes, empty.sa_encode(vectors)))
    lists: Any = faiss.downcast_index(refiner.base_index)
    made = _with_refining(lists, keep / REFINING_FILE, np.concatenate([known, ids]))
    refined(made).k_factor = refiner.k_factor
    faiss.add_to_referenced_objects(made, index)  # type: ignore[attr-defined]  # the lists are its
    return made
