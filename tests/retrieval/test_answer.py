"""Answers from neighbours: worked by hand, and the vote against a plain dictionary."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cairn.retrieval.answer import AnswerRule, answer
from cairn.retrieval.neighbours import NONE, Neighbours


def rule(kind: str, neighbours: int = 3, power: float = 2.0) -> AnswerRule:
    return AnswerRule.model_validate(
        {"answer": kind, "neighbours": 10, "vote_neighbours": neighbours, "vote_power": power, "threshold": 0.0}
    )


def neighbours(labels: list[list[int]], scores: list[list[float]]) -> Neighbours:
    marks = np.array(labels, dtype=np.int64)
    return Neighbours(np.arange(marks.size).reshape(marks.shape), marks, np.array(scores, dtype=np.float32))


def test_the_nearest_wins_alone_and_loses_to_two_of_another() -> None:
    found = neighbours([[1, 2, 2, 1]], [[0.8, 0.7, 0.6, 0.5]])
    assert answer(found, rule("nearest")).landmark_ids.tolist() == [1]
    assert answer(found, rule("nearest")).scores[0] == pytest.approx(0.8)
    voted = answer(found, rule("vote"))
    assert voted.landmark_ids.tolist() == [2]
    assert voted.scores[0] == pytest.approx(0.7**2 + 0.6**2)


def test_without_neighbours_there_is_no_landmark() -> None:
    found = neighbours([[NONE, NONE]], [[-np.inf, -np.inf]])
    for kind in ("nearest", "vote"):
        got = answer(found, rule(kind))
        assert got.landmark_ids.tolist() == [NONE]
        assert got.scores[0] == -np.inf


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(-1, 1, width=16)), min_size=1, max_size=8), st.integers(1, 8))
def test_the_vote_is_a_sum_by_landmark(hits: list[tuple[int, float]], count: int) -> None:
    hits = sorted(hits, key=lambda hit: -hit[1])
    sums: dict[int, float] = {}
    for label, score in hits[:count]:
        sums[label] = sums.get(label, 0.0) + max(0.0, score) ** 8
    got = answer(neighbours([[h[0] for h in hits]], [[h[1] for h in hits]]), rule("vote", count, 8.0))
    assert got.scores[0] == pytest.approx(max(sums.values()), rel=1e-5, abs=1e-12)
    assert sums[int(got.landmark_ids[0])] == pytest.approx(max(sums.values()))


def test_neighbours_are_checked_when_made() -> None:
    with pytest.raises(ValueError, match="fall along"):
        neighbours([[1, 2]], [[0.1, 0.9]])
    with pytest.raises(ValueError, match="one shape"):
        neighbours([[1, 2]], [[0.9]])
