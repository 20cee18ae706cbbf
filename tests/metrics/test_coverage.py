"""The precision-coverage curve against a version that tries every threshold in turn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cairn.metrics.coverage import coverage_at_precision, precision_coverage, threshold_for_precision
from cairn.metrics.inputs import MetricError

Case = tuple[np.ndarray, np.ndarray, int]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Scores of which many tie and some are -inf (those wrong), and at least as many landmark queries as right ones."""
    rows = draw(st.lists(st.tuples(st.sampled_from([-np.inf, 0.1, 0.2, 0.5, 0.7, 0.9]), st.booleans()), max_size=25))
    scores = np.array([score for score, _ in rows], dtype=float)
    right = np.array([flag and score > -np.inf for score, flag in rows], dtype=bool)
    return scores, right, max(1, int(right.sum()) + draw(st.integers(0, 5)))


def slow_points(case: Case) -> list[tuple[float, float, float, int]]:
    """(threshold, precision, coverage, answered) for each score met, highest first."""
    scores, right, landmarks = case
    points = []
    for threshold in sorted({s for s in scores.tolist() if s > -math.inf}, reverse=True):
        answers = [flag for score, flag in zip(scores.tolist(), right.tolist(), strict=True) if score >= threshold]
        points.append((threshold, sum(answers) / len(answers), sum(answers) / landmarks, len(answers)))
    return points


def test_a_curve_by_hand() -> None:
    """Two answers tie at 0.8, one of them wrong; six landmark queries."""
    curve = precision_coverage([0.8, 0.9, 0.8, 0.3], np.array([False, True, True, True]), 6)
    assert curve.thresholds.tolist() == [0.9, 0.8, 0.3]
    assert curve.precision == pytest.approx([1, 2 / 3, 3 / 4])
    assert curve.coverage == pytest.approx([1 / 6, 2 / 6, 3 / 6])
    assert curve.answered.tolist() == [1, 3, 4]


def test_the_loosest_threshold_wins_where_precision_comes_back() -> None:
    """Precision falls to 2/3 at 0.8 and is 3/4 again at 0.3."""
    scores, right = [0.8, 0.9, 0.8, 0.3], np.array([False, True, True, True])
    assert threshold_for_precision(scores, right, 6, 0.75) == 0.3
    assert coverage_at_precision(scores, right, 6, 0.75) == pytest.approx(0.5)
    assert threshold_for_precision(scores, right, 6, 0.76) == pytest.approx(0.85)  # halfway to the next lower score


@given(cases())
def test_the_curve_equals_every_threshold_tried_in_turn(case: Case) -> None:
    curve, expected = precision_coverage(*case), slow_points(case)
    assert curve.thresholds.tolist() == [point[0] for point in expected]
    assert curve.precision == pytest.approx([point[1] for point in expected])
    assert curve.coverage == pytest.approx([point[2] for point in expected])
    assert curve.answered.tolist() == [point[3] for point in expected]
    assert (np.diff(curve.coverage) >= 0).all()


@given(cases(), st.sampled_from([0.0, 0.3, 0.5, 2 / 3, 0.9, 1.0]))
def test_threshold_and_coverage_equal_a_search_over_all_thresholds(case: Case, precision: float) -> None:
    reached = [point for point in slow_points(case) if point[1] >= precision]
    most = max((point[2] for point in reached), default=0)
    highest = max((point[0] for point in reached if point[2] == most), default=math.inf)
    scores, threshold = case[0], threshold_for_precision(*case, precision)
    assert (scores >= threshold).tolist() == (scores >= highest).tolist()
    lower = scores[(scores < highest) & (scores != -np.inf)]
    assert threshold == pytest.approx((highest + lower.max()) / 2 if most and len(lower) else highest)
    assert coverage_at_precision(*case, precision) == pytest.approx(most)


def test_few_distractors_below_every_right_answer_are_refused() -> None:
    """Fifty right answers and two wrong ones far below: with all of them the precision would still be .96."""
    scores, right = np.append(np.linspace(0.8, 1, 50), [0.1, 0.2]), np.arange(52) < 50
    assert threshold_for_precision(scores, right, 50, 0.95) == pytest.approx(0.5)


@given(cases(), st.sampled_from([0.5, 0.9, 1.0]))
def test_the_threshold_keeps_what_it_promises(case: Case, precision: float) -> None:
    scores, right, landmarks = case
    answered = scores >= threshold_for_precision(*case, precision)
    if answered.any():
        assert right[answered].mean() >= precision
    assert right[answered].sum() / landmarks == pytest.approx(coverage_at_precision(*case, precision))


@given(cases())
def test_distractors_below_every_answer_change_no_coverage(case: Case) -> None:
    scores, right, landmarks = case
    with_more = (np.append(scores, [0.01, 0.02]), np.append(right, [False, False]), landmarks)
    assert coverage_at_precision(*with_more, 0.9) == coverage_at_precision(*case, 0.9)


@given(cases())
def test_a_stricter_precision_never_covers_more(case: Case) -> None:
    values = [coverage_at_precision(*case, precision) for precision in (0, 0.5, 0.75, 0.9, 1)]
    assert values == sorted(values, reverse=True)


def test_answers_a_hair_lower_elsewhere_are_still_given() -> None:
    """A tree gives many queries one score, and another machine's or model's may be the least bit lower."""
    scores, right = np.array([0.9] * 40 + [0.6] * 10), np.arange(50) < 40
    assert ((scores - 1e-3 >= threshold_for_precision(scores, right, 40, 0.95)) == right).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_between_scores_next_to_each_other_the_threshold_still_tells_them_apart(dtype: type) -> None:
    for low in np.random.default_rng(0).uniform(0, 1, 100).astype(dtype):
        scores = np.array([low, np.nextafter(low, dtype(2))])
        threshold = threshold_for_precision(scores, np.array([False, True]), 1, 1.0)
        assert (scores >= threshold).tolist() == [False, True]


def test_nothing_answered() -> None:
    assert len(precision_coverage([], [], 4).thresholds) == 0
    assert threshold_for_precision([-np.inf], [False], 4, 0.5) == math.inf
    assert coverage_at_precision([-np.inf], [False], 4, 0.5) == 0


def test_a_precision_that_cannot_be_is_an_error() -> None:
    with pytest.raises(MetricError, match=r"precision 90 must be in \[0, 1\]"):
        threshold_for_precision([0.5], [True], 1, 90)
    with pytest.raises(MetricError, match="no query shows a landmark"):
        precision_coverage([0.5], [False], 0)
