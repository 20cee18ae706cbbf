"""GAP: the published fixtures, a slow version straight from the definition, and what must always hold."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cairn.metrics.gap import gap_of
from cairn.metrics.inputs import MetricError


class Prediction(NamedTuple):
    """The one answer given to an image. An image left without an answer has no prediction."""

    image_id: str
    landmark_id: int
    score: float


# The fixture of the DELF code's own metric tests: three predictions, five test images, two of them without a landmark.
TRUTH = {
    "0123456789abcdef": [0, 12],
    "0223456789abcdef": [100, 200, 300],
    "0323456789abcdef": [1],
    "0423456789abcdef": [],
    "0523456789abcdef": [],
}
PREDICTIONS = [
    Prediction("0223456789abcdef", 0, 0.01),
    Prediction("0323456789abcdef", 1, 10.0),
    Prediction("0423456789abcdef", 150, 15.0),
]


def slow_gap(predictions: list[Prediction], truth: dict[str, list[int]]) -> float:
    """Word for word: walk down the ordered predictions, and at each right one add right so far over all so far."""
    ordered = sorted(predictions, key=lambda p: p.landmark_id)
    ordered = sorted(ordered, key=lambda p: p.image_id)
    ordered = sorted(ordered, key=lambda p: p.score, reverse=True)
    right = 0
    total = 0.0
    for seen, prediction in enumerate(ordered, start=1):
        if prediction.landmark_id in truth[prediction.image_id]:
            right += 1
            total += right / seen
    return total / len([labels for labels in truth.values() if len(labels) > 0])


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Prediction], dict[str, list[int]]]:
    """Truths with several labels, one or none; few scores, so that many tie; some images without a prediction."""
    names = draw(st.lists(st.text("0123456789abcdef", min_size=16, max_size=16), min_size=1, max_size=12, unique=True))
    label_lists = st.lists(st.integers(0, 4), max_size=3, unique=True)
    truth = {name: draw(label_lists) for name in names}
    truth[names[0]] = truth[names[0]] or [draw(st.integers(0, 4))]
    asked = draw(st.lists(st.sampled_from(names), unique=True))
    scores = st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0])
    return [Prediction(name, draw(st.integers(0, 4)), draw(scores)) for name in asked], truth


def arrays(predictions: list[Prediction], truth: dict[str, list[int]]) -> tuple[list[float], np.ndarray, int]:
    right = np.array([p.landmark_id in truth[p.image_id] for p in predictions], dtype=bool)
    return [p.score for p in predictions], right, sum(1 for labels in truth.values() if labels)


def gap(predictions: list[Prediction], truth: dict[str, list[int]]) -> float:
    """Against each image's true labels, any one of which is right; none: the image shows no landmark."""
    return gap_of(*arrays(predictions, truth), np.array([p.image_id for p in predictions], dtype="U16"))


def test_gap_of_the_published_fixture() -> None:
    assert gap(PREDICTIONS, TRUTH) == pytest.approx(0.166667, abs=1e-6)


def test_gap_of_the_published_fixture_without_non_landmark_images() -> None:
    assert gap([p for p in PREDICTIONS if TRUTH[p.image_id]], TRUTH) == pytest.approx(0.333333, abs=1e-6)


def test_equal_scores_go_by_image_id() -> None:
    """The wrong one first gives 1/2 for the right one; the other way round, 1. Two landmark images."""
    truth = {"a": [1], "b": [2]}
    assert gap([Prediction("b", 2, 0.5), Prediction("a", 9, 0.5)], truth) == pytest.approx(0.25)
    assert gap([Prediction("b", 9, 0.5), Prediction("a", 1, 0.5)], truth) == pytest.approx(0.5)


@given(cases())
def test_gap_equals_the_definition(case: tuple[list[Prediction], dict[str, list[int]]]) -> None:
    predictions, truth = case
    scores, right, landmarks = arrays(predictions, truth)
    signed = np.array([int(p.image_id, 16) for p in predictions], dtype=np.uint64).view(np.int64)
    expected = slow_gap(predictions, truth)
    assert gap(predictions, truth) == pytest.approx(expected, abs=1e-12)
    assert gap_of(np.float32(scores), right, landmarks, signed) == pytest.approx(expected, abs=1e-12)


@given(cases(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(
    case: tuple[list[Prediction], dict[str, list[int]]], random: Random
) -> None:
    predictions, truth = case
    shuffled = list(predictions)
    random.shuffle(shuffled)
    assert gap(shuffled, truth) == gap(predictions, truth)


@given(cases())
def test_a_strictly_rising_function_of_the_scores_changes_nothing(
    case: tuple[list[Prediction], dict[str, list[int]]],
) -> None:
    predictions, truth = case
    stretched = [p._replace(score=float(np.exp(3 * p.score) - 7)) for p in predictions]
    assert gap(stretched, truth) == gap(predictions, truth)


@given(cases())
def test_gap_is_one_only_if_every_landmark_is_right_before_anything_wrong(
    case: tuple[list[Prediction], dict[str, list[int]]],
) -> None:
    predictions, truth = case
    ordered = sorted(predictions, key=lambda p: (-p.score, p.image_id))
    landmarks = sum(1 for labels in truth.values() if labels)
    perfect = [p.landmark_id in truth[p.image_id] for p in ordered[:landmarks]]
    value = gap(predictions, truth)
    assert 0 <= value <= 1 + 1e-12
    assert (value == pytest.approx(1)) == (len(perfect) == landmarks and all(perfect))


@given(cases(), st.integers(1, 5))
def test_distractors_hurt_only_above_a_right_answer(
    case: tuple[list[Prediction], dict[str, list[int]]], count: int
) -> None:
    predictions, truth = case
    before = gap(predictions, truth)
    truth = truth | {f"z{i}": [] for i in range(count)}
    assert gap(predictions, truth) == before
    assert gap(predictions + [Prediction(f"z{i}", 1, -2.0) for i in range(count)], truth) == before
    above = gap(predictions + [Prediction(f"z{i}", 1, 2.0) for i in range(count)], truth)
    assert above < before if before > 0 else above == 0


def test_a_landmark_image_without_a_prediction_counts_below_the_line() -> None:
    assert gap([Prediction("a", 1, 0.9)], {"a": [1], "b": [2], "c": [3, 4]}) == pytest.approx(1 / 3)


def test_an_answer_of_score_minus_infinity_that_is_wrong_changes_nothing() -> None:
    assert gap_of([0.5, -np.inf], np.array([True, False]), 2, [1, 2]) == gap_of([0.5], np.array([True]), 2, [1])


def test_no_prediction_at_all_gives_zero() -> None:
    assert gap([], TRUTH) == 0
    assert gap_of([], [], 3, []) == 0


@pytest.mark.parametrize(
    ("scores", "right", "landmarks", "ids", "message"),
    [
        ([0.5, 0.4], [True], 1, [1, 2], "must both be"),
        ([0.5], [1], 1, [1], "right must be bool"),
        ([0.5], [True], 0, [1], "no query shows a landmark"),
        ([0.5, 0.4], [True, True], 1, [1, 2], "2 right answers to 1 landmark queries"),
        ([0.5, np.nan], [True, False], 1, [1, 2], "score 1 is NaN"),
        ([0.5, 0.4], [True, False], 1, [1, 1], "comes twice"),
        ([0.5, 0.4], [True, False], 1, [1], "image_ids"),
    ],
)
def test_what_gap_is_not_defined_for(
    scores: list[float], right: list[bool], landmarks: int, ids: list[int], message: str
) -> None:
    with pytest.raises(MetricError, match=message):
        gap_of(scores, right, landmarks, ids)
