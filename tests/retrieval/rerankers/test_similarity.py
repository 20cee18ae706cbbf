"""Cosines to the nearest others against plain sorting; vectors looked up by image id."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cairn.retrieval.rerankers import similarity
from cairn.retrieval.rerankers.similarity import VectorsById, mean_of_nearest


@given(st.integers(0, 2**32 - 1), st.integers(0, 9), st.integers(1, 7), st.integers(1, 9))
def test_the_mean_is_that_of_the_largest_cosines(seed: int, rows: int, others: int, top: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (rng.normal(size=(n, 5)).astype(np.float32) for n in (rows, others))
    slow = [np.mean(sorted((float(x @ y) for y in b), reverse=True)[:top]) for x in a]
    np.testing.assert_allclose(mean_of_nearest(a, b, top), slow, atol=1e-5)


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(n, 5)).astype(np.float32) for n in (50, 20))
    whole = mean_of_nearest(a, b, 3)
    monkeypatch.setattr(similarity, "CELLS", 70)
    np.testing.assert_allclose(mean_of_nearest(a, b, 3), whole, atol=1e-6)


def test_vectors_by_id() -> None:
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    lookup = VectorsById(np.array([5, -9, 0]), vectors)
    assert lookup(np.array([0, 5, 0, -9])).tolist() == [[4, 5], [0, 1], [4, 5], [2, 3]]
    assert lookup(np.zeros(0, dtype=np.int64)).shape == (0, 2)
    for unknown in (-10, 1, 6):
        with pytest.raises(KeyError, match=str(unknown)):
            lookup(np.array([5, unknown]))
    with pytest.raises(KeyError, match="5"):
        VectorsById(np.zeros(0, dtype=np.int64), vectors[:0])(np.array([5]))
