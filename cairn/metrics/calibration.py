"""How far predicted probabilities are from the share that is right: reliability, calibration error, Brier score.

A probability is that of an answer being right; an answer to a query that shows no landmark is wrong.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cairn.metrics.inputs import MetricError, per_answer


class Reliability(NamedTuple):
    """One row per bin that holds an answer, probabilities rising; all arrays [bins]."""

    low: NDArray[np.float64]  # the bin's edges
    high: NDArray[np.float64]
    answers: NDArray[np.int64]
    probability: NDArray[np.float64]  # mean of the predicted ones
    right: NDArray[np.float64]  # share of right answers

    @property
    def error(self) -> float:
        """Mean over answers of |share right - mean probability| of the answer's bin, in [0, 1]. Needs an answer."""
        return float(np.average(np.abs(self.right - self.probability), weights=self.answers))


def reliability(probabilities: ArrayLike, right: ArrayLike, bins: int = 10) -> Reliability:
    """Probabilities float [n] and right bool [n], one row per answer, in bins.

    The bins are [i / bins, (i + 1) / bins), the last one closed. Without answers there are no rows.

    Raises MetricError if shapes differ, right is not bool, a probability is not in [0, 1], or bins is below one.
    """
    values, flags = _answers(probabilities, right)
    if bins < 1:
        raise MetricError(f"bins = {bins}; it must be at least 1")
    edges = np.arange(bins + 1) / bins
    places = np.minimum(np.searchsorted(edges, values, side="right") - 1, bins - 1)
    used, group, answers = np.unique(places, return_inverse=True, return_counts=True)
    means = (np.bincount(group, weights=of, minlength=len(used)) / answers for of in (values, flags))
    return Reliability(edges[used], edges[used + 1], answers.astype(np.int64), *means)


def expected_calibration_error(probabilities: ArrayLike, right: ArrayLike, bins: int = 15) -> float:
    """`Reliability.error`, in [0, 1], lower being better.

    Naeini et al. 2015 and Guo et al. 2017, arXiv:1706.04599. Raises MetricError as `reliability` does, or without
    answers.
    """
    table = reliability(probabilities, right, bins)
    _require_answers(len(table.answers))
    return table.error


def brier_score(probabilities: ArrayLike, right: ArrayLike) -> float:
    """Mean of (probability - 1 if right else 0) squared, in [0, 1], lower being better (Brier 1950).

    Raises MetricError if shapes differ, right is not bool, a probability is not in [0, 1], or there are no answers.
    """
    values, flags = _answers(probabilities, right)
    _require_answers(len(values))
    return float(((values - flags) ** 2).mean())


def _answers(probabilities: ArrayLike, right: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values, flags = per_answer("probabilities", probabilities, right)
    outside = ~((values >= 0) & (values <= 1))
    if outside.any():
        row = int(outside.argmax())
        raise MetricError(f"probability {row} is {values[row]}; it must be in [0, 1]")
    return values, flags


def _require_answers(count: int) -> None:
    if count < 1:
        raise MetricError("there are no answers; this metric is a mean over answers and needs at least one")
