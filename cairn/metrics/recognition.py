"""How often the answer is right: accuracy over landmark queries, and micro-F1 once a query may go unanswered."""

from __future__ import annotations

from numpy.typing import ArrayLike

from cairn.metrics.inputs import NONE, labels


def accuracy(true: ArrayLike, predicted: ArrayLike) -> float:
    """Share in [0, 1] of landmark queries whose best landmark is right; queries without a landmark are left out.

    true, predicted: int [n], NONE (-1) for no landmark and for no answer. The threshold plays no part: give the best
    landmark of each query. Raises MetricError if shapes differ or no query shows a landmark.
    """
    expected, given = labels(true, predicted)
    shown = expected != NONE
    return float((given[shown] == expected[shown]).mean())


def micro_f1(true: ArrayLike, predicted: ArrayLike) -> float:
    """2 tp / (2 tp + fp + fn) in [0, 1], counted over all queries together.

    true, predicted: int [n], NONE (-1) for no landmark and for no answer (below the threshold).
    tp: right answers. fp: wrong answers, among them every answer to a query that shows no landmark. fn: landmark
    queries not answered rightly, so a wrong answer to a landmark counts in both. Where every query shows a landmark
    and every one is answered, this is the accuracy. Raises MetricError if shapes differ or no query shows a landmark.
    """
    expected, given = labels(true, predicted)
    shown, answered = expected != NONE, given != NONE
    tp = int((shown & (given == expected)).sum())
    fp = int(answered.sum()) - tp
    fn = int(shown.sum()) - tp
    return 2 * tp / (2 * tp + fp + fn)
