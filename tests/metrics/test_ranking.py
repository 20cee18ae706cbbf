"""Recall at k and mAP at k: the published fixtures, and slow versions that walk down each list."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cairn.metrics.inputs import NONE, MetricError
from cairn.metrics.ranking import average_precision, mean_average_precision, recall_at_k

# The retrieval fixture of the DELF code's metric tests: nothing found of 2, second of 1, first of 3, first of 1.
HITS = np.array([[False, False], [False, True], [True, False], [True, False]])
RELEVANT = np.array([2, 1, 3, 1])


@st.composite
def searches(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """True labels, ranked labels padded with NONE, relevant counts large enough for what is found, and a k."""
    queries, depth = draw(st.integers(1, 6)), draw(st.integers(1, 8))
    true = np.array(draw(st.lists(st.integers(NONE, 2), min_size=queries, max_size=queries)))
    true[0] = max(true[0], 0)
    ranked = np.full((queries, depth), NONE)
    for row in ranked:
        found = draw(st.lists(st.integers(0, 2), max_size=depth))
        row[: len(found)] = found
    beyond = np.array(draw(st.lists(st.integers(0, 3), min_size=queries, max_size=queries)))
    beyond[0] += 1
    return true, ranked, (ranked == true[:, None]).sum(axis=1) + beyond, draw(st.integers(1, depth))


def slow_average_precision(true: int, ranked: list[int], relevant: int, k: int) -> float:
    total = 0.0
    for rank in range(1, k + 1):
        if ranked[rank - 1] == true:
            total += ranked[:rank].count(true) / rank
    return total / min(relevant, k)


def test_the_published_fixtures() -> None:
    assert average_precision(HITS, RELEVANT, k=100).mean() == pytest.approx(0.458333, abs=1e-6)
    assert average_precision(HITS, RELEVANT, k=1).mean() == pytest.approx(0.5)


def test_average_precision_by_hand() -> None:
    """Right at ranks 1 and 3 of four right photos: (1/1 + 2/3) / 4, and by the first three only / 3."""
    hits = np.array([[True, False, True, False]])
    assert average_precision(hits, [4], k=100) == pytest.approx([(1 + 2 / 3) / 4])
    assert average_precision(hits, [4], k=3) == pytest.approx([(1 + 2 / 3) / 3])


@given(searches())
def test_map_equals_a_walk_down_each_list(search: tuple[np.ndarray, np.ndarray, np.ndarray, int]) -> None:
    true, ranked, relevant, k = search
    rows = [i for i in range(len(true)) if true[i] != NONE and relevant[i] > 0]
    expected = [slow_average_precision(true[i], ranked[i].tolist(), relevant[i], k) for i in rows]
    assert mean_average_precision(true, ranked, relevant, k) == pytest.approx(np.mean(expected))


@given(searches())
def test_recall_equals_a_walk_down_each_list(search: tuple[np.ndarray, np.ndarray, np.ndarray, int]) -> None:
    true, ranked, _, k = search
    found = [int(label) in row[:k].tolist() for label, row in zip(true, ranked, strict=True) if label != NONE]
    assert recall_at_k(true, ranked, k) == pytest.approx(sum(found) / len(found))


@given(searches())
def test_recall_never_falls_with_k(search: tuple[np.ndarray, np.ndarray, np.ndarray, int]) -> None:
    true, ranked, _, _ = search
    values = [recall_at_k(true, ranked, k) for k in range(1, ranked.shape[1] + 1)]
    assert values == sorted(values)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))
def test_every_right_photo_first_is_a_map_of_one(relevant: int, wrong: int, k: int) -> None:
    ranked = np.array([[7] * relevant + [8] * wrong])
    k = min(k, ranked.shape[1])
    assert mean_average_precision([7], ranked, [relevant], k) == pytest.approx(1)


@given(searches())
def test_swapping_a_right_photo_up_never_lowers_average_precision(
    search: tuple[np.ndarray, np.ndarray, np.ndarray, int],
) -> None:
    true, ranked, relevant, k = search
    hits = ranked == true[:, None]
    before = average_precision(hits[:1], relevant[:1], k)
    better = np.sort(hits[:1], axis=1)[:, ::-1]
    assert average_precision(better, relevant[:1], k) >= before - 1e-12


def test_a_query_whose_landmark_is_not_in_the_index_is_missed_by_recall_and_left_out_of_map() -> None:
    true, ranked, relevant = [1, 2], [[1, 3], [1, 3]], [1, 0]
    assert recall_at_k(true, ranked, 2) == pytest.approx(0.5)
    assert mean_average_precision(true, ranked, relevant, 2) == pytest.approx(1)


def test_no_neighbour_is_no_hit_for_a_query_without_a_landmark() -> None:
    assert recall_at_k([NONE, 1], [[NONE], [1]], 1) == 1


@pytest.mark.parametrize(
    ("true", "ranked", "k", "message"),
    [
        ([1], [[1, 2]], 3, "search deeper"),
        ([1], [[1, 2]], 0, "k = 0"),
        ([1, 2], [[1, 2]], 1, "a row per query"),
        ([NONE], [[1]], 1, "no query shows a landmark"),
        ([1], [[1.0]], 1, "ranked must hold integer"),
    ],
)
def test_what_recall_is_not_defined_for(true: list[int], ranked: list[list[int]], k: int, message: str) -> None:
    with pytest.raises(MetricError, match=message):
        recall_at_k(true, ranked, k)


def test_more_photos_found_than_there_are_is_an_error() -> None:
    with pytest.raises(MetricError, match="query 0: 2 right photos found, but relevant is 1"):
        mean_average_precision([1], [[1, 1]], [1], 2)
