"""The one object that re-rankers pass along: queries, their neighbours and, once decided, their answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cairn.manifest import NONE
from cairn.retrieval.neighbours import Neighbours, joined_neighbours

UNIT_WITHIN = 1e-3  # a unit vector's length may be off by so much


class Answers(NamedTuple):
    """Best landmark per query, before the threshold: landmark_ids int64 [queries], scores float32 [queries]."""

    landmark_ids: NDArray[np.int64]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class Result:
    """A row per query, checked when made.

    queries: unit vectors, float32 [queries, dimensions]
    neighbours: image ids, landmark ids and falling scores, [queries, k], k at least 1
    query_ids: int64 [queries], what the context's `features` are asked for: image ids offline, positions when served
    answers: the best landmark of each query and its score, before any threshold; none until a re-ranker answers
    """

    queries: NDArray[np.float32]
    neighbours: Neighbours
    query_ids: NDArray[np.int64]
    answers: Answers | None = None

    def __post_init__(self) -> None:
        """Raises ValueError if parts differ in length or type, vectors are not unit vectors, or a score is NaN."""
        _check_queries(self.queries, self.query_ids, len(self.neighbours))
        _check_neighbours(self.neighbours)
        if self.answers is not None:
            _check_answers(self.answers, len(self.queries))

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def decided(self) -> Answers:
        """The answers. Raises ValueError if nothing has answered yet."""
        if self.answers is None:
            raise ValueError("this result has no answers yet; a re-ranker that answers must come first")
        return self.answers

    def only(self, chosen: NDArray[np.generic]) -> Result:
        """The chosen queries, bool [queries] or row numbers in any order."""
        answers = None if self.answers is None else Answers(*(part[chosen] for part in self.answers))
        return Result(self.queries[chosen], self.neighbours.only(chosen), self.query_ids[chosen], answers)

    def rescored(self, scores: NDArray[np.floating]) -> Result:
        """The same neighbours under other scores [queries, k], sorted by them; equal ones keep their order.

        Where there is no neighbour the new score does not matter. Raises ValueError if answers were already made
        from the old order.
        """
        if self.answers is not None:
            raise ValueError("neighbours cannot be sorted anew once answers were made from them")
        found = self.neighbours
        kept = np.where(found.landmark_ids == NONE, -np.inf, scores).astype(np.float32)
        order = np.argsort(-kept, axis=1, kind="stable")
        moved = Neighbours(
            np.take_along_axis(found.image_ids, order, 1),
            np.take_along_axis(found.landmark_ids, order, 1),
            np.take_along_axis(kept, order, 1),
        )
        return replace(self, neighbours=moved)

    def answered(self, landmark_ids: NDArray[np.int64], scores: NDArray[np.floating]) -> Result:
        """The same with answers: landmark ids [queries], NONE without one, and scores [queries], then -inf."""
        sure = np.where(landmark_ids == NONE, -np.inf, scores).astype(np.float32)
        return replace(self, answers=Answers(landmark_ids.astype(np.int64), sure))


def searched(
    queries: NDArray[np.float32], neighbours: Neighbours, query_ids: NDArray[np.int64] | None = None
) -> Result:
    """A search's outcome, before any re-ranker. Without `query_ids` a query is known by its position."""
    ids = np.arange(len(queries), dtype=np.int64) if query_ids is None else query_ids
    return Result(queries, neighbours, ids)


def joined_results(parts: Sequence[Result]) -> Result:
    """The queries of several results without answers, one at least, as one."""
    neighbours = joined_neighbours([part.neighbours for part in parts])
    ids = np.concatenate([part.query_ids for part in parts])
    return searched(np.concatenate([part.queries for part in parts]), neighbours, ids)


def _check_queries(queries: NDArray[np.float32], query_ids: NDArray[np.int64], rows: int) -> None:
    if queries.ndim != 2 or queries.dtype != np.float32 or len(queries) != rows:
        raise ValueError(f"queries must be float32 [{rows}, dimensions], not {queries.dtype} {queries.shape}")
    if query_ids.shape != (rows,) or query_ids.dtype != np.int64:
        raise ValueError(f"query_ids must be int64 [{rows}], not {query_ids.dtype} {query_ids.shape}")
    if not (np.abs(np.linalg.norm(queries, axis=1) - 1) <= UNIT_WITHIN).all():
        raise ValueError("queries must be unit vectors")


def _check_neighbours(found: Neighbours) -> None:
    if found.scores.shape[1] < 1:
        raise ValueError("neighbours need at least one column")
    if np.isnan(found.scores).any() or ((found.landmark_ids == NONE) != np.isneginf(found.scores)).any():
        raise ValueError("a neighbour's score must be -inf where there is none, and only there; never NaN")


def _check_answers(answers: Answers, rows: int) -> None:
    ids, scores = answers
    if ids.shape != (rows,) or ids.dtype != np.int64 or scores.shape != (rows,) or scores.dtype != np.float32:
        raise ValueError(f"answers must be int64 and float32 [{rows}], not {ids.dtype} {ids.shape}, {scores.shape}")
    if np.isnan(scores).any() or ((ids == NONE) != np.isneginf(scores)).any():
        raise ValueError("an answer's score must be -inf where there is none, and only there; never NaN")
