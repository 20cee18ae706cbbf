"""How good an index is against exact search, and how hard it has to look to be as good as wanted."""

from __future__ import annotations

import math
from typing import NamedTuple

import faiss
import numpy as np
from faiss.contrib.exhaustive_search import knn_ground_truth
from numpy.typing import NDArray

from cairn.retrieval.index import DEPTH, lists_of, refined, search
from cairn.retrieval.vectors import ROWS, UnitVectors

HELD_OUT = 500  # of the index's own photos, asked for
CANDIDATES = (50, 100, 200, 400, 800, 1600)  # that are compared by their vectors
CANDIDATE_WORK = 150  # of comparing one by its vector, which lies anywhere on disk, in comparisons of short codes


class Effort(NamedTuple):
    """How hard an index looks, and what came of it."""

    lists: int
    nprobe: int  # lists gone through for a query
    candidates: int | None  # compared by their vectors; none: the lists hold these
    recall_of_own_photos: float  # share of the exact DEPTH nearest that are found, the photo itself left out


class Held(NamedTuple):
    """Queries float32 [n, dimensions], their own image ids int64 [n], and those of the exact nearest [n, DEPTH]."""

    queries: NDArray[np.float32]
    own: NDArray[np.int64]
    nearest: NDArray[np.int64]


def exact_nearest(
    vectors: UnitVectors, rows: NDArray[np.int64], ids: NDArray[np.int64], queries: NDArray[np.float32], k: int
) -> NDArray[np.int64]:
    """Image ids, int64 [queries, k], of the nearest of `rows` int64 [n], whose image ids are `ids` [n].

    One pass over the vectors, part by part.
    """
    parts = (vectors[rows[start : start + ROWS]] for start in range(0, len(rows), ROWS))
    _, found = knn_ground_truth(queries, parts, k, faiss.METRIC_INNER_PRODUCT)
    return np.asarray(ids[found], dtype=np.int64)


def held_photos(vectors: UnitVectors, rows: NDArray[np.int64], ids: NDArray[np.int64], seed: int) -> Held:
    """Some of the photos at `rows` int64 [n], with image ids [n], to ask for: drawn by `seed`."""
    own = np.sort(np.random.default_rng((seed, 1)).permutation(len(rows))[:HELD_OUT])
    depth = min(DEPTH + 1, len(rows))
    queries = vectors[rows[own]]
    nearest = exact_nearest(vectors, rows, ids, queries, depth)
    return Held(queries, ids[own], without(nearest, ids[own], depth - 1))


def recall_of(found: NDArray[np.int64], nearest: NDArray[np.int64]) -> float:
    """Share of the nearest, image ids int64 [queries, k], that are among those found [queries, any]; 1 without any."""
    hits = [len(np.intersect1d(some, all_)) for some, all_ in zip(nearest, found, strict=True)]
    return float(np.sum(hits) / nearest.size) if nearest.size else 1.0


def without(found: NDArray[np.int64], own: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """The first k of each row [n, k + 1] that are not the row's own id."""
    other = found != own[:, None]
    other[np.arange(len(found))[other.all(axis=1)], -1] = False
    return np.asarray(found[other].reshape(len(found), -1)[:, :k], dtype=np.int64)


def tune(index: faiss.Index, held: Held, wanted: float, nprobe: int | None) -> Effort:
    """Make an index with inverted lists look as little as is needed for a recall of `wanted`; say how hard that is.

    nprobe: leaves the lists at so many, where it is given. Otherwise they are the fewest that suffice, to a sixteenth.
    Work is counted in comparisons, not timed, so that the outcome repeats. Where nothing suffices, the best recall
    is taken.
    """
    lists = lists_of(index)
    size = lists.invlists.compute_ntotal() / lists.nlist
    least, best = math.inf, None
    for candidates in (None,) if refined(index) is None else CANDIDATES[::-1]:
        for some in _grid(lists.nlist) if nprobe is None else [min(nprobe, lists.nlist)]:
            work = some * size + CANDIDATE_WORK * (candidates or 0)
            if work >= least:
                break
            effort = Effort(lists.nlist, some, candidates, _recall(index, held, some, candidates))
            if effort.recall_of_own_photos >= wanted:
                least, best = work, effort
                break
            if math.isinf(least) and (best is None or effort.recall_of_own_photos > best.recall_of_own_photos):
                best = effort
    assert best is not None  # the grid has a first place, and no work is infinite
    if nprobe is None and least < math.inf:
        best = _narrowed(index, held, wanted, best)
    set_effort(index, best.nprobe, best.candidates)
    return best


def _narrowed(index: faiss.Index, held: Held, wanted: float, enough: Effort) -> Effort:
    """The effort with as few lists as suffice, of those between its own and the grid's next smaller ones."""
    few = max((step for step in _grid(enough.lists) if step < enough.nprobe), default=0)
    while enough.nprobe - few > max(1, enough.nprobe // 16):
        middle = (few + enough.nprobe) // 2
        recall = _recall(index, held, middle, enough.candidates)
        if recall >= wanted:
            enough = enough._replace(nprobe=middle, recall_of_own_photos=recall)
        else:
            few = middle
    return enough


def set_effort(index: faiss.Index, nprobe: int, candidates: int | None) -> None:
    """Let an index look at so many lists, and compare so many candidates by their vectors, if it does."""
    lists_of(index).nprobe = nprobe
    refiner = refined(index)
    if refiner is not None and candidates is not None:
        refiner.k_factor = candidates / DEPTH


def _grid(lists: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12 and so on: as many as there are at most."""
    steps = sorted({2**power * part // 2 for power in range(1, 1 + lists.bit_length()) for part in (2, 3)} | {1})
    return [step for step in steps if step < lists] + [lists]


def _recall(index: faiss.Index, held: Held, nprobe: int, candidates: int | None) -> float:
    set_effort(index, nprobe, candidates)
    _, found = search(index, held.queries, DEPTH + 1)
    return recall_of(without(found, held.own, DEPTH), held.nearest)
