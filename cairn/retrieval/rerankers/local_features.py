"""The first neighbours compared point by point: those of which many local features fit together move up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from cairn.manifest import NONE
from cairn.retrieval.local.features import Features
from cairn.retrieval.local.matching import Geometry, inliers, matches
from cairn.retrieval.rerankers.base import Changes, Context, StepParams, needed
from cairn.retrieval.result import Result

SCALES = (0.25, 0.3536, 0.5, 0.7071, 1.0, 1.4142, 2.0)  # DELF's, as published
Scale = Annotated[float, Field(ge=0.05, le=4)]


class LocalFeaturesParams(StepParams):
    """How photos are compared, and what becomes of the count of inliers.

    capped: score + min(inliers, cap) / cap (GLDv2 recognition 2019; cap 70, or 90 in another system)
    sqrt: sqrt(inliers) x score (the EfficientNet and DELF system, over its top 10)

    The published sum over the best 3 to 5 is `knn_vote` with power 1 behind this.

    delf wants other matching than the defaults, that of DELF (Noh et al. 2017) as the same system used it: mutual
    false, no ratio, max_distance 0.8, geometry affine, pixels 20, trials 1000, dimensions 40. Its points lie on coarse
    grids, one a scale: under a ratio nothing is left, since two scales show the same.
    """

    name: Literal["local_features"] = "local_features"
    extractor: Literal["sift", "aliked", "delf"] = "sift"  # delf: attention keypoints of the trained network itself
    weights: str = "none"  # aliked: a .safetensors file
    top: Annotated[int, Field(ge=1, le=1000)] = 10  # neighbours compared; those behind count as having no inliers
    combine: Literal["capped", "sqrt"] = "capped"
    cap: Annotated[int, Field(ge=1, le=10_000)] = 70  # inliers
    size: Annotated[int, Field(ge=32, le=4096)] = 600  # pixels of the longer side; larger photos are reduced to it
    max_features: Annotated[int, Field(ge=8, le=100_000)] = 1000
    min_strength: Annotated[float, Field(ge=0)] = 0.0  # a feature is over it; each extractor has strengths of its own
    scales: Annotated[tuple[Scale, ...], Field(min_length=1)] = SCALES  # delf: of its pyramid
    dimensions: Annotated[int, Field(ge=2, le=8192)] | None = None  # delf: PCA, fitted on the train side, to so many
    mutual: bool = True  # matches are each other's nearest; false: the nearest to each of the query's
    ratio: Annotated[float, Field(gt=0, le=1)] | None = 0.85  # nearest distance over second; none: no matter
    max_distance: Annotated[float, Field(gt=0, le=2)] | None = None  # of unit vectors that match; none: no matter
    geometry: Geometry = "homography"  # by MAGSAC++; affine: by plain RANSAC
    pixels: Annotated[float, Field(gt=0, le=100)] = 4.0  # an inlier lies within so many of where it should
    trials: Annotated[int, Field(ge=1, le=100_000)] = 2000
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @model_validator(mode="after")
    def _weighted(self) -> LocalFeaturesParams:
        if self.extractor == "aliked" and self.weights == "none":
            raise ValueError("weights: extractor aliked needs a .safetensors file; name one, or use extractor sift")
        return self

    @property
    def depth(self) -> int:
        """The first ones."""
        return self.top

    @property
    def changes(self) -> Changes:
        """Neighbours are sorted anew."""
        return "neighbours"

    @property
    def served(self) -> bool:
        """No: `retrieve`, which runs the chain, is given no photo; `verify` compares after it has answered."""
        return False


class Fit(NamedTuple):
    """The matches of two photos that fit together: points float32 [inliers, 2] in pixels of the reduced photos."""

    query: NDArray[np.float32]
    photo: NDArray[np.float32]


@dataclass(frozen=True)
class LocalFeatures:
    """`of` gives the features of an index photo or a query by its id; `watch` is the context's."""

    params: LocalFeaturesParams
    of: Callable[[int], Features]
    watch: Callable[[Sequence[int], str], Iterable[int]] | None = None

    def process(self, result: Result) -> Result:
        """Sorts neighbours anew; those of equal scores keep their order."""
        counts, scores = self.inliers(result), result.neighbours.scores.astype(np.float64)
        if self.params.combine == "capped":
            return result.rescored(scores + np.minimum(counts, self.params.cap) / self.params.cap)
        there = result.neighbours.landmark_ids != NONE
        return result.rescored(np.sqrt(counts) * np.where(there, scores, 0))

    def inliers(self, result: Result) -> NDArray[np.int64]:
        """How many features fit together, int64 [queries, k]; 0 behind the first `top`."""
        found = result.neighbours
        counts = np.zeros(found.scores.shape, dtype=np.int64)
        compared = found.landmark_ids[:, : self.params.top] != NONE
        rows = np.flatnonzero(compared.any(axis=1)).tolist()
        for row in rows if self.watch is None else self.watch(rows, f"compare photos ({self.params.extractor})"):
            for column in np.flatnonzero(compared[row]).tolist():
                fit = self.fit(int(result.query_ids[row]), int(found.image_ids[row, column]))
                counts[row, column] = len(fit.query)
        return counts

    def fit(self, query_id: int, image_id: int) -> Fit:
        """What of a query's features fits to an index photo's."""
        return fitted(self.params, self.of(query_id), self.of(image_id))


def fitted(how: LocalFeaturesParams, query: Features, photo: Features) -> Fit:
    """What of a query's features fits to a photo's; `verify` asks it too."""
    pairs = matches(query, photo, how.mutual, how.ratio, how.max_distance)
    a, b = query.points[pairs[:, 0]], photo.points[pairs[:, 1]]
    inside = inliers(a, b, how.geometry, how.pixels, how.trials, how.seed)
    return Fit(a[inside], b[inside])


def build(params: LocalFeaturesParams, context: Context) -> LocalFeatures:
    """Raises RerankError where the context has no local features for this step."""
    what = f"local features of photos ({params.extractor})"
    return LocalFeatures(params, needed(context.features.get(params), params.name, what), context.watch)
