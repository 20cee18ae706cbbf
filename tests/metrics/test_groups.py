"""Accuracy per landmark and by class size, against plain loops; and that the groups add up to the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cairn.metrics.groups import by_landmark, by_size
from cairn.metrics.inputs import NONE, MetricError
from cairn.metrics.recognition import accuracy

ROWS = st.lists(
    st.tuples(st.integers(NONE, 3), st.integers(NONE, 3), st.integers(0, 40)), min_size=1, max_size=30
).filter(lambda rows: any(true != NONE for true, _, _ in rows))


def test_per_landmark_by_hand() -> None:
    result = by_landmark([5, 2, 5, NONE, 5], [5, 3, 2, 5, 5])
    assert result.landmark_ids.tolist() == [2, 5]
    assert result.queries.tolist() == [1, 3]
    assert result.accuracy == pytest.approx([0, 2 / 3])


def test_by_size_by_hand() -> None:
    bins = by_size([1, 1, 2, 3, NONE, 4], [1, 2, 2, 3, 9, NONE], [3, 3, 2, 1, 0, 15])
    assert [(b.name, b.queries, b.accuracy) for b in bins] == [
        ("1", 1, 1.0),
        ("2-3", 3, pytest.approx(2 / 3)),
        ("8-15", 1, 0.0),
    ]


@pytest.mark.parametrize(
    ("size", "name"),
    [
        (0, "0"),
        (1, "1"),
        (2, "2-3"),
        (3, "2-3"),
        (4, "4-7"),
        (7, "4-7"),
        (8, "8-15"),
        (1023, "512-1023"),
        (1024, "1024-2047"),
    ],
)
def test_bins_double(size: int, name: str) -> None:
    assert [b.name for b in by_size([1], [1], [size])] == [name]


@given(ROWS)
def test_groups_equal_plain_loops_and_add_up(rows: list[tuple[int, int, int]]) -> None:
    true, predicted, sizes = (list(column) for column in zip(*rows, strict=True))
    landmarks = by_landmark(true, predicted)
    for landmark, queries, share in zip(*landmarks, strict=True):
        answers = [p == t for t, p, _ in rows if t == landmark]
        assert (queries, share) == (len(answers), pytest.approx(np.mean(answers)))
    bins = by_size(true, predicted, sizes)
    for group in bins:
        answers = [p == t for t, p, s in rows if t != NONE and group.low <= s <= group.high]
        assert (group.queries, group.accuracy) == (len(answers), pytest.approx(np.mean(answers)))
    whole = accuracy(true, predicted)
    assert np.average(landmarks.accuracy, weights=landmarks.queries) == pytest.approx(whole)
    assert np.average([b.accuracy for b in bins], weights=[b.queries for b in bins]) == pytest.approx(whole)
    assert [b.low for b in bins] == sorted({b.low for b in bins})


def test_sizes_that_cannot_be_are_errors() -> None:
    with pytest.raises(MetricError, match="sizes must be integers"):
        by_size([1, 2], [1, 2], [3])
    with pytest.raises(MetricError, match="class size is -4"):
        by_size([1], [1], [-4])
