"""SuperGlobal's second ranking, without local features: descriptors refined by those near them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cairn.manifest import NONE
from cairn.retrieval.rerankers.base import Changes, Context, Reranker, StepParams, needed
from cairn.retrieval.result import Result


class SuperGlobalParams(StepParams):
    """Shao et al. 2023, arXiv:2308.06954; the defaults are the paper's."""

    name: Literal["superglobal"] = "superglobal"
    top: Annotated[int, Field(ge=1, le=5000)] = 400  # M: neighbours that are ranked again
    neighbours: Annotated[int, Field(ge=1, le=100)] = 9  # K: descriptors that refine one
    beta: Annotated[float, Field(ge=0, le=10)] = 0.15
    query: Literal["mean", "max"] = "mean"  # how the query is expanded; max: as the published code

    @property
    def depth(self) -> int:
        """The first ones."""
        return self.top

    @property
    def changes(self) -> Changes:
        """Neighbours are sorted anew."""
        return "neighbours"

    @property
    def looks_up_vectors(self) -> bool:
        """Yes: they are refined."""
        return True


@dataclass(frozen=True)
class SuperGlobal:
    """Refined descriptors: x = (x_0 + sum of beta s_k x_k) / (1 + sum of beta s_k), s_k the cosine of x_0 and x_k.

    Of an index photo x_0 that is among the query's first M neighbours, the x_k are the K most similar **others of these
    M**, unrefined; so the index is not touched, and a photo is refined anew for each query.

    Of the query x_0, the x_k are the K index photos that a first score, the query times refined descriptors, ranks
    first, refined themselves, with that first score as s_k. This is `query: mean`, which keeps scores within -1..1. The
    published code takes instead, with `query: max`, the largest value of each dimension over the first K + 1 refined
    descriptors, without the query itself and not made a unit vector: its scores have another scale.

    The final score is the mean of two: the query times the refined descriptor, and the expanded query times it. A
    negative s_k counts as 0. Neighbours behind the first M stay behind them, with scores no higher than theirs.
    """

    params: SuperGlobalParams
    vectors: Callable[[NDArray[np.int64]], NDArray[np.float32]]

    def process(self, result: Result) -> Result:
        """Sorts the first M neighbours of each query anew; one query at a time, for M x M cosines."""
        found = result.neighbours
        scores = found.scores.astype(np.float64)
        for row, query in enumerate(result.queries):
            count = int((found.landmark_ids[row, : self.params.top] != NONE).sum())
            if count:
                again = self._scores(query, self.vectors(found.image_ids[row, :count]))
                scores[row, :count] = again
                scores[row, count:] = np.minimum(scores[row, count:], again.min())
        return result.rescored(scores)

    def _scores(self, query: NDArray[np.float32], photos: NDArray[np.float32]) -> NDArray[np.float32]:
        """Final scores [n] of index photos [n, dimensions] for one query [dimensions]."""
        refined = refine(photos, self.params.neighbours, self.params.beta)
        first = refined @ query
        ranked = np.argsort(-first, kind="stable")
        if self.params.query == "max":
            expanded = refined[ranked[: self.params.neighbours + 1]].max(axis=0)
        else:
            near = ranked[: self.params.neighbours]
            weights = self.params.beta * np.clip(first[near], 0, None)
            expanded = (query + weights @ refined[near]) / (1 + weights.sum())
        return np.asarray((first + refined @ expanded) / 2, dtype=np.float32)


def refine(photos: NDArray[np.float32], neighbours: int, beta: float) -> NDArray[np.float32]:
    """Each of unit vectors [n, dimensions] refined by the most similar others of them, float32 [n, dimensions]."""
    cosines = photos @ photos.T
    np.fill_diagonal(cosines, -np.inf)
    near = np.argsort(-cosines, axis=1, kind="stable")[:, : min(neighbours, len(photos) - 1)]
    weights = np.zeros_like(cosines)
    np.put_along_axis(weights, near, beta * np.clip(np.take_along_axis(cosines, near, 1), 0, None), 1)
    return np.asarray((photos + weights @ photos) / (1 + weights.sum(axis=1, keepdims=True)), dtype=np.float32)


def build(params: SuperGlobalParams, context: Context) -> Reranker:
    """Raises RerankError without vectors of index photos."""
    return SuperGlobal(params, needed(context.vectors, params.name, "vectors of index photos"))
