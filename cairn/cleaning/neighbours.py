"""Labels that a photo's nearest neighbours do not share.

Near duplicates have one vote together, and none on each other: copies of one mislabelled upload would vouch for
themselves.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cairn.manifest import NONE
from cairn.params import NeighbourVoteParams

BLOCK = 4096
LEAST_DEPTH = 100  # neighbours looked up, so that enough are left when near duplicates are passed over

Doubts = dict[int, str]  # row of a photo -> evidence against its label


@dataclass(frozen=True)
class Surroundings:
    """What stands around each photo.

    labels: int64 [photos], NONE for a distractor
    nearest: rows of the nearest photos, best first, int64 [photos, depth]; never the photo itself
    copies: the near duplicates of each row that has any
    independent: how many groups of near duplicates share the photo's label beside its own, int64 [photos]
    """

    labels: NDArray[np.int64]
    nearest: NDArray[np.int64]
    copies: dict[int, set[int]]
    independent: NDArray[np.int64]

    def voters(self, row: int, most: int) -> list[int]:
        """Up to `most` of the nearest photos that are near duplicates neither of this one nor of a nearer voter."""
        chosen: list[int] = []
        silent = set(self.copies.get(row, ()))
        for other in self.nearest[row].tolist():
            if len(chosen) == most:
                break
            if other not in silent:
                chosen.append(other)
                silent |= self.copies.get(other, set())
        return chosen


def surroundings(
    vectors: NDArray[np.float32], labels: NDArray[np.int64], pairs: NDArray[np.int64], voters: int
) -> Surroundings:
    """The exact nearest neighbours by cosine, deep enough for `voters`.

    vectors: unit vectors [photos, dimensions]
    labels: int64 [photos], NONE for a distractor
    pairs: rows of near duplicates, int64 [pairs, 2]
    """
    copies: dict[int, set[int]] = defaultdict(set)
    for a, b in pairs.tolist():
        copies[a].add(b)
        copies[b].add(a)
    nearest = _nearest(vectors, max(LEAST_DEPTH, 2 * voters))
    return Surroundings(labels, nearest, dict(copies), _independent(labels, pairs))


def _nearest(vectors: NDArray[np.float32], depth: int) -> NDArray[np.int64]:
    depth = min(depth, len(vectors) - 1)
    if depth < 1:
        return np.zeros((len(vectors), 0), np.int64)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    parts = [index.search(vectors[start : start + BLOCK], depth + 1)[1] for start in range(0, len(vectors), BLOCK)]
    found = np.concatenate(parts).astype(np.int64)
    itself = found == np.arange(len(found))[:, None]
    itself[~itself.any(axis=1), -1] = True  # as many equal vectors hid it: the last one goes
    rest: NDArray[np.int64] = found[~itself].reshape(len(found), depth)
    return rest


def _independent(labels: NDArray[np.int64], pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(labels), len(labels)))
    _, groups = connected_components(graph, directed=False)
    held = np.unique(np.stack([labels, groups], axis=1), axis=0)
    known, count = np.unique(held[:, 0], return_counts=True)
    return np.asarray(count[np.searchsorted(known, labels)] - 1, np.int64)


def doubts_by_neighbours(around: Surroundings, params: NeighbourVoteParams) -> Doubts:
    """Landmark photos whose nearest show another landmark (or none), and distractors whose nearest show one.

    A landmark photo's share is of the voters, or of its landmark's other groups of near duplicates where those are
    fewer: in a landmark of three photos two may vouch. Where none may, nothing is said.
    """
    doubts: Doubts = {}
    for row, label in enumerate(around.labels.tolist()):
        votes = Counter(around.labels[around.voters(row, params.k)].tolist())
        asked, friends = votes.total(), votes.pop(label, 0)
        if not votes:
            continue
        rival, most = max(votes.items(), key=lambda vote: (vote[1], -vote[0]))
        shown = f"{most} show {'no landmark' if rival == NONE else f'landmark {rival}'}"
        if label == NONE:
            if most >= params.distractor_share * asked:
                doubts[row] = f"{most} of {asked} nearest photos show landmark {rival}"
        elif (
            friends < params.min_share * min(asked, int(around.independent[row])) and most >= params.rival_share * asked
        ):
            doubts[row] = f"{friends} of {asked} nearest photos share its label, {shown}"
    return doubts
