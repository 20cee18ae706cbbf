"""Accuracy and micro-F1 against counts made by hand and one query at a time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cairn.metrics.inputs import NONE, MetricError
from cairn.metrics.recognition import accuracy, micro_f1

Pair = tuple[int, int]
PAIRS = st.lists(st.tuples(st.integers(NONE, 3), st.integers(NONE, 3)), min_size=1, max_size=30).filter(
    lambda pairs: any(true != NONE for true, _ in pairs)
)


def columns(pairs: list[Pair]) -> tuple[list[int], list[int]]:
    return [true for true, _ in pairs], [predicted for _, predicted in pairs]


def test_top_1_accuracy_of_the_published_fixture() -> None:
    """Of the DELF code's metric tests: unanswered, wrong, right, a distractor answered, a distractor left alone."""
    assert accuracy([12, 100, 1, NONE, NONE], [NONE, 0, 1, 150, NONE]) == pytest.approx(0.333333, abs=1e-6)


def test_micro_f1_by_hand() -> None:
    """tp 1; fp 2 (a wrong landmark, a distractor answered); fn 2 (the wrong landmark again, and one unanswered)."""
    assert micro_f1([12, 100, 1, NONE, NONE], [NONE, 0, 1, 150, NONE]) == pytest.approx(2 / (2 + 2 + 2))


@given(PAIRS)
def test_both_equal_a_count_one_query_at_a_time(pairs: list[Pair]) -> None:
    tp = fp = fn = landmarks = 0
    for true, predicted in pairs:
        landmarks += true != NONE
        if predicted != NONE and predicted == true:
            tp += 1
        elif predicted != NONE:
            fp += 1
        if true not in (NONE, predicted):
            fn += 1
    true_labels, predicted_labels = columns(pairs)
    assert accuracy(true_labels, predicted_labels) == pytest.approx(tp / landmarks)
    assert micro_f1(true_labels, predicted_labels) == pytest.approx(2 * tp / (2 * tp + fp + fn))


@given(PAIRS)
def test_micro_f1_is_the_harmonic_mean_of_precision_and_recall(pairs: list[Pair]) -> None:
    true, predicted = columns(pairs)
    right = sum(t == p != NONE for t, p in pairs)
    answered, landmarks = sum(p != NONE for p in predicted), sum(t != NONE for t in true)
    expected = 0.0
    if right:
        expected = 2 / (answered / right + landmarks / right)
    assert micro_f1(true, predicted) == pytest.approx(expected)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1))
def test_micro_f1_is_accuracy_where_every_query_shows_a_landmark_and_is_answered(pairs: list[Pair]) -> None:
    assert micro_f1(*columns(pairs)) == pytest.approx(accuracy(*columns(pairs)))


@given(PAIRS)
def test_a_distractor_touches_micro_f1_only_if_answered_and_accuracy_never(pairs: list[Pair]) -> None:
    true, predicted = columns(pairs)
    assert micro_f1([*true, NONE], [*predicted, NONE]) == micro_f1(true, predicted)
    assert micro_f1([*true, NONE], [*predicted, 2]) <= micro_f1(true, predicted)
    assert accuracy([*true, NONE], [*predicted, 2]) == accuracy(true, predicted)


@pytest.mark.parametrize("metric", [accuracy, micro_f1])
@pytest.mark.parametrize(
    ("true", "predicted", "message"),
    [
        ([NONE, NONE], [1, NONE], "no query shows a landmark"),
        ([], [], "no query shows a landmark"),
        ([1, 2], [1], "must both be"),
        ([1.0], [1.0], "integer landmark ids"),
        ([1], [-2], "predicted holds -2"),
    ],
)
def test_what_they_are_not_defined_for(metric, true: list[int], predicted: list[int], message: str) -> None:
    with pytest.raises(MetricError, match=message):
        metric(true, predicted)
