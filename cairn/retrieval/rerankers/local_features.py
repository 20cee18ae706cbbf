"""The first neighbours compared point by point: those of which many local features fit together move up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cairn.retrieval.local import EXTRACTORS
from cairn.retrieval.local.features import Features
from cairn.retrieval.local.matching import count_inliers, mutual_matches
from cairn.retrieval.local.pixels import reduced
from cairn.retrieval.neighbours import NONE
from cairn.retrieval.rerankers.base import Changes, Context, Reranker, StepParams, needed
from cairn.retrieval.result import Result

KEPT = 512  # index photos whose features are remembered: about half a megabyte each


class LocalFeaturesParams(StepParams):
    """How photos are compared, and what becomes of the count of inliers.

    capped: score + min(inliers, cap) / cap (GLDv2 recognition 2019; cap 70, or 90 in another system)
    sqrt: sqrt(inliers) x score (the EfficientNet and DELF system, over its top 10)

    The published sum over the best 3 to 5 is `knn_vote` with power 1 behind this.
    """

    name: Literal["local_features"] = "local_features"
    extractor: Literal["sift"] = "sift"
    top: Annotated[int, Field(ge=1, le=1000)] = 10  # neighbours compared; those behind count as having no inliers
    combine: Literal["capped", "sqrt"] = "capped"
    cap: Annotated[int, Field(ge=1, le=10_000)] = 70  # inliers
    size: Annotated[int, Field(ge=32, le=4096)] = 600  # pixels of the longer side; larger photos are reduced to it
    max_features: Annotated[int, Field(ge=8, le=100_000)] = 1000
    ratio: Annotated[float, Field(gt=0, le=1)] = 0.85  # nearest distance over second
    pixels: Annotated[float, Field(gt=0, le=100)] = 4.0  # an inlier lies within so many of where it should
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @property
    def changes(self) -> Changes:
        """Neighbours are sorted anew."""
        return "neighbours"


@dataclass(frozen=True)
class LocalFeatures:
    """An extractor behind each of the two photo readers: ids to features."""

    params: LocalFeaturesParams
    of_photo: Callable[[int], Features]
    of_query: Callable[[int], Features]

    def process(self, result: Result) -> Result:
        """Sorts neighbours anew; those of equal scores keep their order."""
        inliers, scores = self.inliers(result), result.neighbours.scores.astype(np.float64)
        if self.params.combine == "capped":
            return result.rescored(scores + np.minimum(inliers, self.params.cap) / self.params.cap)
        there = result.neighbours.landmark_ids != NONE
        return result.rescored(np.sqrt(inliers) * np.where(there, scores, 0))

    def inliers(self, result: Result) -> NDArray[np.int64]:
        """How many features fit together, int64 [queries, k]; 0 behind the first `top`."""
        found = result.neighbours
        counts = np.zeros(found.scores.shape, dtype=np.int64)
        compared = found.landmark_ids[:, : self.params.top] != NONE
        for row in np.flatnonzero(compared.any(axis=1)):
            query = self.of_query(int(result.query_ids[row]))
            for column in np.flatnonzero(compared[row]):
                counts[row, column] = self._together(query, self.of_photo(int(found.image_ids[row, column])))
        return counts

    def _together(self, query: Features, photo: Features) -> int:
        pairs = mutual_matches(query, photo, self.params.ratio)
        return count_inliers(query.points[pairs[:, 0]], photo.points[pairs[:, 1]], self.params.pixels, self.params.seed)


def build(params: LocalFeaturesParams, context: Context) -> Reranker:
    """Raises RerankError without photo readers, ImportError where the extractor's library is not installed."""
    photo = needed(context.photo, params.name, "a reader of index photos")
    query_photo = needed(context.query_photo, params.name, "a reader of query photos")
    extract = EXTRACTORS[params.extractor](params.max_features)
    return LocalFeatures(
        params,
        lru_cache(KEPT)(lambda image_id: extract(reduced(photo(image_id), params.size))),
        lambda query_id: extract(reduced(query_photo(query_id), params.size)),
    )
