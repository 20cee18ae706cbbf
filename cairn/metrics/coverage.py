"""Precision against coverage as the threshold falls, and the threshold that keeps a wanted precision.

A threshold answers every query whose score is at least as high. Precision is the share of the answers that are right;
an answer to a query that shows no landmark is wrong. Coverage is the share of landmark queries that are answered
rightly, so it never falls as the threshold falls, and answers to anything else do not raise it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cairn.metrics.inputs import MetricError, scored_answers


class Curve(NamedTuple):
    """One point per distinct score, thresholds falling; all arrays [points]."""

    thresholds: NDArray[np.float64]
    precision: NDArray[np.float64]  # in [0, 1]
    coverage: NDArray[np.float64]  # in [0, 1]
    answered: NDArray[np.int64]  # queries answered at this threshold


def precision_coverage(scores: ArrayLike, right: ArrayLike, landmark_queries: int) -> Curve:
    """The curve of scores [n] and right bool [n], one row per query that has a best landmark.

    A score of -inf means no answer at any threshold. Without answers the curve has no points.

    Raises MetricError if shapes differ, a score is NaN, or landmark_queries is below one or below the number of right
    answers.
    """
    values, flags = scored_answers(scores, right, landmark_queries)
    answerable = values != -np.inf
    values, flags = values[answerable], flags[answerable]
    order = np.argsort(-values, kind="stable")
    values, found = values[order], np.cumsum(flags[order])
    last = np.flatnonzero(np.append(values[1:] != values[:-1], True)[: len(values)])  # of each run of equal scores
    answered = last + 1
    return Curve(values[last], found[last] / answered, found[last] / landmark_queries, answered.astype(np.int64))


def coverage_at_precision(scores: ArrayLike, right: ArrayLike, landmark_queries: int, precision: float) -> float:
    """Coverage in [0, 1] at the loosest threshold whose precision is at least `precision`; 0 if there is none.

    Raises MetricError as `precision_coverage` does, or if precision is not in [0, 1].
    """
    curve = precision_coverage(scores, right, landmark_queries)
    point = _loosest(curve, precision)
    return 0.0 if point is None else float(curve.coverage[point])


def threshold_for_precision(scores: ArrayLike, right: ArrayLike, landmark_queries: int, precision: float) -> float:
    """The threshold that answers most queries rightly at a precision of at least `precision`; inf if none has it.

    Of scores that answer as many rightly the highest is taken: a lower one would only add wrong answers, and where
    these are few enough to keep the precision, it would go down to the lowest score of all. The threshold lies halfway
    from there to the next lower score, if there is one, so that the same answers that come out a hair lower elsewhere
    (by another model, on another machine) are still given.

    Raises MetricError as `precision_coverage` does, or if precision is not in [0, 1].
    """
    curve = precision_coverage(scores, right, landmark_queries)
    point = _loosest(curve, precision)
    if point is None:
        return math.inf
    least = int(np.searchsorted(curve.coverage, curve.coverage[point]))  # coverage never falls along the curve
    if least + 1 == len(curve.thresholds):
        return float(curve.thresholds[least])
    return _halfway(
        curve.thresholds[least], curve.thresholds[least + 1], np.result_type(np.asarray(scores), np.float32)
    )


def _halfway(high: float, low: float, dtype: np.dtype[Any]) -> float:
    """A number of that type above `low`, for scores of it to be compared with."""
    middle = float(dtype.type((high + low) / 2))
    return middle if middle > low else high


def _loosest(curve: Curve, precision: float) -> int | None:
    """The last point of at least `precision`: precision rises and falls along the curve, so all are looked at."""
    if not 0 <= precision <= 1:
        raise MetricError(f"precision {precision} must be in [0, 1]")
    reached = np.flatnonzero(curve.precision >= precision)
    return int(reached[-1]) if len(reached) else None
