"""Lower scores where photos that show no landmark come near: three published formulas over train-side distractors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cairn.manifest import NONE
from cairn.retrieval.rerankers.base import Changes, Context, Reranker, StepParams, needed, needed_distractors
from cairn.retrieval.rerankers.similarity import mean_of_nearest
from cairn.retrieval.result import Result

Kind = Literal["top1_minus_mean", "index_side", "query_side"]
PUBLISHED_TOP: dict[Kind, int] = {"top1_minus_mean": 5, "index_side": 5, "query_side": 10}
CHANGES: dict[Kind, Changes] = {"top1_minus_mean": "answers", "index_side": "neighbours", "query_side": "scores"}


class DistractorPenaltyParams(StepParams):
    """Which formula. q a query, t an index photo, NL the distractors; all times `weight`.

    top1_minus_mean: the nearest's landmark, score cos(q, t_1) - mean of top-5 cos(q, NL) (triplet system, GLDv2)
    index_side: each neighbour's score becomes max(score, 0) - mean of top-5 cos(t, NL), sorted again; the score is
        cos(q, t) unless an earlier step made another (GLDv2 recognition 2020, first place)
    query_side: an answer's score falls by the mean of top-10 cos(q, NL) (the same)
    """

    name: Literal["distractor_penalty"] = "distractor_penalty"
    kind: Kind
    weight: Annotated[float, Field(ge=0, le=10)] = 1.0
    top: Annotated[int, Field(ge=1, le=1000)] | None = None  # distractors in a mean; none: as many as published

    @property
    def asks_distractors(self) -> bool:
        """Yes."""
        return True

    @property
    def changes(self) -> Changes:
        """Depends on the formula."""
        return CHANGES[self.kind]

    @property
    def looks_up_vectors(self) -> bool:
        """On the index's side."""
        return self.kind == "index_side"


@dataclass(frozen=True)
class _Distractors:
    """The distractors with the mean's length and weight."""

    vectors: NDArray[np.float32]
    top: int
    weight: float

    def penalty(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """weight x mean of top cos to distractors, float64 [n], of unit vectors float32 [n, dimensions]."""
        return self.weight * mean_of_nearest(vectors, self.vectors, self.top).astype(np.float64)


@dataclass(frozen=True)
class Top1MinusMean:
    """Answers with the first neighbour's landmark."""

    distractors: _Distractors

    def process(self, result: Result) -> Result:
        """Adds answers; neighbours stay."""
        found = result.neighbours
        return result.answered(found.landmark_ids[:, 0], found.scores[:, 0] - self.distractors.penalty(result.queries))


@dataclass(frozen=True)
class IndexSide:
    """Neighbours that look like distractors themselves fall behind."""

    distractors: _Distractors
    vectors: Callable[[NDArray[np.int64]], NDArray[np.float32]]

    def process(self, result: Result) -> Result:
        """Sorts neighbours anew; each index photo's penalty is worked out once a call."""
        found = result.neighbours
        there = found.landmark_ids != NONE
        ids, back = np.unique(found.image_ids[there], return_inverse=True)
        scores = np.maximum(found.scores.astype(np.float64), 0)
        scores[there] -= self.distractors.penalty(self.vectors(ids))[back.reshape(-1)]
        return result.rescored(scores)


@dataclass(frozen=True)
class QuerySide:
    """Answers of queries that look like distractors get a lower score."""

    distractors: _Distractors

    def process(self, result: Result) -> Result:
        """Changes answers' scores. Raises ValueError if there are no answers yet."""
        answers = result.decided
        return result.answered(answers.landmark_ids, answers.scores - self.distractors.penalty(result.queries))


def build(params: DistractorPenaltyParams, context: Context) -> Reranker:
    """Raises RerankError without distractors or, for index_side, without vectors of index photos."""
    top = params.top or PUBLISHED_TOP[params.kind]
    distractors = _Distractors(needed_distractors(context, params.kind), top, params.weight)
    if params.kind == "top1_minus_mean":
        return Top1MinusMean(distractors)
    if params.kind == "query_side":
        return QuerySide(distractors)
    return IndexSide(distractors, needed(context.vectors, params.kind, "vectors of index photos"))
