"""Where the answers are right: accuracy per landmark, and by how many photos a landmark has."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cairn.metrics.inputs import NONE, MetricError, labels


class LandmarkAccuracy(NamedTuple):
    """One row per landmark that was asked for, landmark ids rising; all arrays [landmarks]."""

    landmark_ids: NDArray[np.int64]
    queries: NDArray[np.int64]
    accuracy: NDArray[np.float64]  # in [0, 1]


class SizeAccuracy(NamedTuple):
    """Accuracy over the landmark queries whose landmark has `low` to `high` photos, both included."""

    low: int
    high: int
    queries: int
    accuracy: float  # in [0, 1]

    @property
    def name(self) -> str:
        """The bin as people write it, such as 1 or 4-7."""
        return str(self.low) if self.low == self.high else f"{self.low}-{self.high}"


def by_landmark(true: ArrayLike, predicted: ArrayLike) -> LandmarkAccuracy:
    """Share of each landmark's queries whose best landmark is right.

    true, predicted: int [n], NONE (-1) for no landmark (left out) and for no answer. Raises MetricError if shapes
    differ or no query shows a landmark.
    """
    expected, given = labels(true, predicted)
    shown = expected != NONE
    ids, group, queries = np.unique(expected[shown], return_inverse=True, return_counts=True)
    right = np.bincount(group, weights=(given == expected)[shown])
    return LandmarkAccuracy(ids, queries.astype(np.int64), right / queries)


def by_size(true: ArrayLike, predicted: ArrayLike, sizes: ArrayLike) -> list[SizeAccuracy]:
    """Accuracy in bins of doubling class size (0, 1, 2-3, 4-7, 8-15, ...), small first; bins without a query left out.

    true, predicted as in `by_landmark`; sizes: int [n], how many photos (of the index, say) the query's landmark has;
    of no meaning where the query shows none. Raises MetricError if shapes differ, a size is negative, or no query
    shows a landmark.
    """
    expected, given = labels(true, predicted)
    counts = np.asarray(sizes)
    if counts.shape != expected.shape or not np.issubdtype(counts.dtype, np.integer):
        raise MetricError(
            f"sizes must be integers {expected.shape}, a row per query, not {counts.dtype} {counts.shape}"
        )
    shown = expected != NONE
    counts, right = counts[shown], (given == expected)[shown]
    if counts.min() < 0:
        raise MetricError(f"a class size is {counts.min()}; sizes are 0 or more")
    _, doublings = np.frexp(counts)  # 0 for 0, and b for 2^(b-1) .. 2^b - 1
    bins = []
    for bits in np.unique(doublings).tolist():
        here = doublings == bits
        bins.append(SizeAccuracy((1 << bits) >> 1, (1 << bits) - 1, int(here.sum()), float(right[here].mean())))
    return bins
