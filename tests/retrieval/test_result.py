"""What a result and its neighbours refuse, how it is sorted anew, and how queries are picked from it."""

from __future__ import annotations

import numpy as np
import pytest

from cairn.manifest import NONE
from cairn.retrieval.neighbours import Neighbours
from cairn.retrieval.result import Answers, Result, searched

QUERIES = np.eye(2, 4, dtype=np.float32)
FOUND = Neighbours(
    np.array([[10, 11, 12], [20, 21, 0]]),
    np.array([[1, 2, 1], [3, 1, NONE]]),
    np.array([[0.9, 0.5, 0.5], [0.8, 0.1, -np.inf]], dtype=np.float32),
)


def test_sorted_anew_equal_scores_keep_their_order_and_none_stays_behind() -> None:
    again = searched(QUERIES, FOUND).rescored(np.array([[0.1, 0.7, 0.7], [0.2, 0.3, 99.0]])).neighbours
    assert again.image_ids.tolist() == [[11, 12, 10], [21, 20, 0]]
    assert again.landmark_ids.tolist() == [[2, 1, 1], [1, 3, NONE]]
    np.testing.assert_allclose(again.scores, [[0.7, 0.7, 0.1], [0.3, 0.2, -np.inf]], rtol=1e-6)


def test_sorting_after_an_answer_is_refused() -> None:
    answered = searched(QUERIES, FOUND).answered(np.array([1, 3]), np.array([0.9, 0.8]))
    with pytest.raises(ValueError, match="once answers were made"):
        answered.rescored(FOUND.scores)


def test_answers_are_asked_for_only_when_there_are_some() -> None:
    with pytest.raises(ValueError, match="no answers yet"):
        _ = searched(QUERIES, FOUND).decided
    given = searched(QUERIES, FOUND).answered(np.array([1, NONE]), np.array([0.9, 0.8])).decided
    assert given.landmark_ids.tolist() == [1, NONE]
    assert given.scores[1] == -np.inf


def test_picked_queries_keep_their_ids_and_answers() -> None:
    whole = searched(QUERIES, FOUND, np.array([7, -5])).answered(np.array([1, 3]), np.array([0.9, 0.8]))
    for chosen in (np.array([1]), np.array([False, True])):
        part = whole.only(chosen)
        assert part.query_ids.tolist() == [-5]
        assert part.neighbours.image_ids.tolist() == [[20, 21, 0]]
        assert part.decided.landmark_ids.tolist() == [3]


def test_a_query_without_an_id_is_known_by_its_place() -> None:
    assert searched(QUERIES, FOUND).query_ids.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"queries": QUERIES.astype(np.float64)}, "queries must be float32"),
        ({"queries": QUERIES[:1]}, "queries must be float32"),
        ({"queries": QUERIES * 2}, "unit vectors"),
        ({"queries": QUERIES * np.nan}, "unit vectors"),
        ({"query_ids": np.zeros(3, dtype=np.int64)}, "query_ids must be int64"),
        ({"neighbours": Neighbours(*(np.zeros((2, 0), t) for t in (np.int64, np.int64, np.float32)))}, "one column"),
        ({"neighbours": Neighbours(FOUND.image_ids, FOUND.image_ids, FOUND.scores)}, "-inf where there is none"),
        ({"neighbours": Neighbours(FOUND.image_ids, FOUND.landmark_ids, FOUND.scores * np.float32(np.nan))}, "NaN"),
        ({"answers": Answers(np.zeros(1, np.int64), np.zeros(1, np.float32))}, "answers must be int64"),
        ({"answers": Answers(np.array([1, NONE]), np.ones(2, np.float32))}, "answer's score must be -inf"),
    ],
)
def test_refusals(change: dict[str, object], said: str) -> None:
    parts = {"queries": QUERIES, "neighbours": FOUND, "query_ids": np.arange(2), "answers": None}
    with pytest.raises(ValueError, match=said):
        Result(**(parts | change))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image_ids": FOUND.image_ids[:, :2]}, "of one shape"),
        ({"image_ids": np.arange(2), "landmark_ids": np.arange(2), "scores": FOUND.scores[:, 0]}, "of one shape"),
        ({"image_ids": FOUND.image_ids.astype(np.uint64)}, "need int64 image ids"),
        ({"landmark_ids": FOUND.landmark_ids.astype(np.int32)}, "int64 landmark ids"),
        ({"scores": FOUND.scores.astype(np.float64)}, "float32 scores"),
        ({"scores": FOUND.scores[:, ::-1]}, "must fall along each row"),
    ],
)
def test_neighbours_that_are_none(change: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Neighbours(**(vars(FOUND) | change))
