"""The report of an evaluation, on a case small enough to work out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cairn.evaluation import Judged, calibration_figures, figures, judge, order_for_people, report, threshold_of
from cairn.manifest import NONE
from cairn.retrieval.answer import AnswerRule
from cairn.retrieval.neighbours import Neighbours
from cairn.retrieval.result import searched

RULE = AnswerRule(neighbours=3, steps=(), threshold=0.5, calibration=None)

# Five queries: right at .9, a distractor at .8, right at .7, wrong at .6, right but under the threshold at .4.
TRUE = np.array([1, NONE, 2, 1, 2])
LABELS = np.array([[1, 2, 1], [2, 2, 1], [2, 1, 2], [2, 1, 2], [2, 2, 2]])
TOP = [0.9, 0.8, 0.7, 0.6, 0.4]


def queries() -> Judged:
    scores = np.array([[top, top - 0.05, top - 0.1] for top in TOP], dtype=np.float32)
    found = Neighbours(np.arange(15).reshape(5, 3), LABELS.astype(np.int64), scores)
    result = searched(np.eye(5, dtype=np.float32), found).answered(found.landmark_ids[:, 0], found.scores[:, 0])
    return judge(result, TRUE.astype(np.int64))


@pytest.fixture
def three_deep(monkeypatch: pytest.MonkeyPatch) -> None:
    """The case has three neighbours a query."""
    monkeypatch.setattr("cairn.evaluation.RECALL_AT", (1, 3))
    monkeypatch.setattr("cairn.evaluation.MAP_DEPTH", 3)


@pytest.mark.usefixtures("three_deep")
def test_every_figure_by_hand() -> None:
    relevant = np.array([2, 0, 3, 2, 3])
    got = figures(queries(), relevant, RULE.threshold)
    assert got["gap"] == pytest.approx((1 + 2 / 3 + 3 / 5) / 4)
    assert got["accuracy"] == pytest.approx(3 / 4)
    # Answered: right, distractor, right, wrong; so tp 2, fp 2, fn 2.
    assert got["micro_f1"] == pytest.approx(2 * 2 / (2 * 2 + 2 + 2))
    assert got["recall_at_1"] == pytest.approx(3 / 4)
    assert got["recall_at_3"] == 1
    average = [(1 + 2 / 3) / 2, (1 + 2 / 3) / 3, (1 / 2) / 2, (1 + 1 + 1) / 3]
    assert got["map_at_3"] == pytest.approx(np.mean(average))
    assert got["coverage_at_precision_95"] == pytest.approx(1 / 4)
    assert got["precision_at_threshold"] == pytest.approx(2 / 4)
    assert got["coverage_at_threshold"] == pytest.approx(2 / 4)
    assert (got["queries"], got["distractors"]) == (4, 1)


@pytest.mark.usefixtures("three_deep")
def test_without_distractors_the_rest_is_unchanged() -> None:
    content = report(queries(), np.array([2, 0, 3, 2, 3]), RULE, {1: "Tower"})
    alone = content["without_distractors"]
    assert alone["gap"] == pytest.approx((1 + 1 + 3 / 4) / 4)
    assert alone["accuracy"] == content["accuracy"]
    assert alone["distractors"] == 0
    assert content["by_landmark"] == [
        {"landmark_id": 1, "name": "Tower", "queries": 2, "accuracy": 0.5},
        {"landmark_id": 2, "name": "", "queries": 2, "accuracy": 1.0},
    ]
    assert content["by_class_size"] == [{"images": "2-3", "queries": 4, "accuracy": 0.75}]


def test_the_threshold_is_the_lowest_that_keeps_the_precision() -> None:
    assert threshold_of(queries(), 1.0) == pytest.approx(
        0.85
    )  # halfway between the last right answer and the distractor
    assert threshold_of(queries(), 0.6) == np.float32(0.4)


@pytest.mark.parametrize("size", [1e-20, 1.0, 3000.0])
def test_a_threshold_is_as_good_for_small_scores_as_for_large_ones(size: float) -> None:
    judged = queries()
    judged = replace(judged, scores=(judged.scores * size).astype(np.float32))
    assert (judged.scores >= threshold_of(judged, 1.0)).tolist() == (queries().scores >= np.float32(0.9)).tolist()
    wrong = judged.only(np.array([False, True, False, True, False]))
    assert not (wrong.scores >= threshold_of(wrong, 0.9)).any()


def test_without_validation_photos_every_answer_is_given_however_low() -> None:
    scores = np.array([-np.inf, -3, -1e-3, 0, 2], np.float32)  # those of a penalty may lie under 0
    distractors = queries().only(TRUE == NONE)
    unanswered = replace(queries(), landmark_ids=np.full(5, NONE), scores=np.full(5, -np.inf, np.float32))
    for validation in (distractors, unanswered):
        assert (scores >= threshold_of(validation, 0.9)).tolist() == [False, True, True, True, True]


def test_a_distractor_without_an_answer_is_not_right() -> None:
    unanswered = replace(queries(), landmark_ids=np.full(5, NONE))
    assert not unanswered.right.any()


def test_people_are_shown_the_ends_first() -> None:
    rows = {name: rows.tolist() for name, rows in order_for_people(queries()).items()}
    assert rows == {"surest_right": [0, 2, 4], "least_sure_right": [4, 2, 0], "surest_wrong": [1, 3]}


def test_a_distractors_answer_is_never_right_in_the_calibration() -> None:
    got = calibration_figures(np.array([1.0, 1.0, 1.0, 0.0, 1.0]), queries().right)
    assert got["brier_score"] == pytest.approx(1 / 5)  # sure of the distractor, and wrong in nothing else
    assert got["expected_calibration_error"] == pytest.approx(1 / 5)
