"""The learning rate's course at points that can be worked out by hand."""

from __future__ import annotations

import itertools

import pytest

from cairn.training.schedule import warmup_cosine


def test_warm_up_rises_linearly_and_the_cosine_falls_to_nothing() -> None:
    course = [warmup_cosine(step, 110, 10) for step in range(110)]
    assert course[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert course[10] == 1
    assert course[60] == pytest.approx(0.5)  # half way through the cosine
    assert course[35] == pytest.approx(0.5 + 0.5**0.5 / 2)  # a quarter: cos 45 degrees
    assert course[109] < 0.001
    assert all(a > b for a, b in itertools.pairwise(course[10:]))


def test_no_warm_up_starts_at_once() -> None:
    assert warmup_cosine(0, 10, 0) == 1
