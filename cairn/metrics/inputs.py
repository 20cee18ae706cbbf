"""What the arrays given to a metric must be, checked in one place."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

NONE = -1  # as a true label: the query shows no landmark; as a predicted or ranked one: no answer


class MetricError(ValueError):
    """Arrays that a metric is not defined for."""


def scored_answers(
    scores: ArrayLike, right: ArrayLike, landmark_queries: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores as float64 [n] and right as bool [n], one row per answered query.

    Raises MetricError if the shapes differ, right is not bool, a score is NaN, there is no landmark query, or more
    answers are right than there are landmark queries.
    """
    values, flags = per_answer("scores", scores, right)
    if np.isnan(values).any():
        raise MetricError(f"score {int(np.isnan(values).argmax())} is NaN; leave queries without an answer out")
    require_landmark_queries(landmark_queries)
    if flags.sum() > landmark_queries:
        raise MetricError(f"{flags.sum()} right answers to {landmark_queries} landmark queries; count the queries anew")
    return values, flags


def per_answer(name: str, values: ArrayLike, right: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """`values`, which `name` names in errors, as float64 [n] and right as bool [n], one row per answer.

    Raises MetricError if the shapes differ or right is not bool.
    """
    numbers, flags = np.asarray(values, dtype=np.float64), np.asarray(right)
    if numbers.ndim != 1 or numbers.shape != flags.shape:
        raise MetricError(f"{name} {numbers.shape} and right {flags.shape} must both be [n], a row per answer")
    if flags.size and flags.dtype != np.bool_:
        raise MetricError(f"right must be bool, not {flags.dtype}; compare predicted with true labels first")
    return numbers, flags.astype(np.bool_)  # no answers at all may come as an empty list, which numpy calls float64


def labels(true: ArrayLike, predicted: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Both as int64 [n]. Raises MetricError if the shapes or types differ, or no query shows a landmark."""
    expected, given = np.asarray(true), np.asarray(predicted)
    if expected.ndim != 1 or expected.shape != given.shape:
        raise MetricError(f"true {expected.shape} and predicted {given.shape} must both be [n], a row per query")
    require_integers("true", expected)
    require_integers("predicted", given)
    require_landmark_queries(int((expected != NONE).sum()))
    return expected.astype(np.int64), given.astype(np.int64)


def require_integers(name: str, values: NDArray[np.generic]) -> None:
    """Raises MetricError unless the array holds integers of at least NONE, or nothing."""
    if not values.size:
        return
    if not np.issubdtype(values.dtype, np.integer):
        raise MetricError(f"{name} must hold integer landmark ids, not {values.dtype}")
    if values.min() < NONE:
        raise MetricError(f"{name} holds {values.min()}; landmark ids are 0 or more, and {NONE} stands for none")


def require_landmark_queries(count: int) -> None:
    """Raises MetricError where no query shows a landmark: every metric here is a share of those."""
    if count < 1:
        raise MetricError(
            "no query shows a landmark; this metric is a share of landmark queries and needs at least one"
        )
