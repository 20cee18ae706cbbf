"""Calibration metrics: worked by hand, and against a version that looks at one answer at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cairn.metrics.calibration import brier_score, expected_calibration_error, reliability
from cairn.metrics.inputs import MetricError

Rows = list[tuple[float, bool]]

HAND = ([0.05, 0.15, 0.2, 0.5, 0.95, 1.0], np.array([False, False, True, True, True, True]))

probabilities = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0]))
answers = st.lists(st.tuples(probabilities, st.booleans()), min_size=1, max_size=40)


def slow_error(rows: Rows, bins: int) -> float:
    """The bin of each answer by looking at every edge."""
    places = [max(i for i in range(bins) if i / bins <= value) for value, _ in rows]
    total = 0.0
    for place in set(places):
        here = [row for row, its in zip(rows, places, strict=True) if its == place]
        total += abs(sum(flag for _, flag in here) - math.fsum(value for value, _ in here))
    return total / len(rows)


def split(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    return np.array([value for value, _ in rows]), np.array([flag for _, flag in rows], dtype=bool)


def test_five_bins_of_equal_width_by_hand() -> None:
    """0.2 and 0.5 are in the bins they begin or lie in, 1.0 in the last; the bin [0.6, 0.8) is empty."""
    table = reliability(*HAND, bins=5)
    assert table.low == pytest.approx([0, 0.2, 0.4, 0.8])
    assert table.high == pytest.approx([0.2, 0.4, 0.6, 1.0])
    assert table.answers.tolist() == [2, 1, 1, 2]
    assert table.probability == pytest.approx([0.1, 0.2, 0.5, 0.975])
    assert table.right == pytest.approx([0, 1, 1, 1])
    wanted = (2 * 0.1 + 0.8 + 0.5 + 2 * 0.025) / 6
    assert expected_calibration_error(*HAND, bins=5) == pytest.approx(wanted)


def test_the_brier_score_by_hand() -> None:
    assert brier_score([1.0, 0.5, 0.2], [True, True, False]) == pytest.approx((0 + 0.25 + 0.04) / 3)
    assert brier_score([0.0], [True]) == 1


@given(answers, st.integers(1, 20))
def test_it_equals_one_answer_at_a_time_and_does_not_mind_the_order(rows: Rows, bins: int) -> None:
    found = expected_calibration_error(*split(rows), bins)
    assert found == pytest.approx(slow_error(rows, bins), abs=1e-12)
    assert expected_calibration_error(*split(rows[::-1]), bins) == pytest.approx(found, abs=1e-12)
    table = reliability(*split(rows), bins)
    assert table.answers.sum() == len(rows)
    assert (table.low <= table.probability + 1e-12).all()
    assert (table.probability <= table.high + 1e-12).all()


@given(answers)
def test_one_bin_is_the_difference_of_the_means_and_no_more_than_the_brier_score_allows(rows: Rows) -> None:
    """(mean p - mean y)^2 <= mean (p - y)^2, by Jensen."""
    values, flags = split(rows)
    error = expected_calibration_error(values, flags, 1)
    assert error == pytest.approx(abs(values.mean() - flags.mean()), abs=1e-12)
    assert error**2 <= brier_score(values, flags) + 1e-12


def test_probabilities_that_are_the_shares_have_no_error() -> None:
    values = np.repeat([0.25, 0.75], 4)
    flags = np.array([True, False, False, False, True, True, True, False])
    assert expected_calibration_error(values, flags) == 0
    assert brier_score(values, flags) == pytest.approx(0.25 * 0.75)


def test_without_answers_there_are_no_bins_and_no_mean() -> None:
    assert all(len(column) == 0 for column in reliability([], [], 5))
    for metric in (brier_score, expected_calibration_error):
        with pytest.raises(MetricError, match="no answers"):
            metric([], [])


@pytest.mark.parametrize(
    ("values", "flags", "said"),
    [
        ([0.5, 0.5], [True], r"must both be \[n\]"),
        ([[0.5]], [[True]], r"must both be \[n\]"),
        ([0.5], [1], "right must be bool"),
        ([0.5, 1.5], [True, True], r"probability 1 is 1.5"),
        ([math.nan], [True], r"probability 0 is nan"),
    ],
)
def test_arrays_that_cannot_be(values: list[object], flags: list[object], said: str) -> None:
    for metric in (brier_score, expected_calibration_error, reliability):
        with pytest.raises(MetricError, match=said):
            metric(values, flags)


def test_no_bins_are_an_error() -> None:
    with pytest.raises(MetricError, match="bins = 0"):
        reliability([0.5], [True], 0)
