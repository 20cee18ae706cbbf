"""The classifier against a plain softmax, its file, and what it refuses."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from retrieval.rerankers.small_world import unit

from cairn.retrieval.rerankers.classifier import CosineClassifier

RNG = np.random.default_rng(0)
HEAD = CosineClassifier(np.array([3, 5, 9]), unit(RNG.normal(size=(3, 2, 4))), 6.0)
VECTORS = unit(RNG.normal(size=(5, 4)))


def test_a_softmax_over_the_nearest_centres() -> None:
    got = HEAD(VECTORS)
    for row, x in enumerate(VECTORS):
        odds = [math.exp(6 * max(float(x @ centre) for centre in centres)) for centres in HEAD.weights]
        np.testing.assert_allclose(got[row], [o / sum(odds) for o in odds], rtol=1e-5)


def test_a_large_scale_does_not_overflow() -> None:
    sharp = CosineClassifier(HEAD.landmark_ids, HEAD.weights, 1e4)(VECTORS)
    np.testing.assert_allclose(sharp.sum(axis=1), 1)
    assert HEAD(VECTORS[:0]).shape == (0, 3)


def test_its_file_has_the_same_bytes_and_gives_the_same_classifier(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        HEAD.save(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert np.array_equal(CosineClassifier.open(tmp_path / "a.npz")(VECTORS), HEAD(VECTORS))
    np.savez(tmp_path / "c.npz", weights=HEAD.weights)
    with pytest.raises(ValueError, match=r"\['landmark_ids', 'scale'\] missing"):
        CosineClassifier.open(tmp_path / "c.npz")


@pytest.mark.parametrize(
    ("ids", "weights", "scale", "said"),
    [
        ([5, 3, 9], HEAD.weights, 1.0, "must rise"),
        ([3, 5], HEAD.weights, 1.0, "centres"),
        ([3, 5, 9], HEAD.weights[:, 0], 1.0, "centres"),
        ([3, 5, 9], HEAD.weights * 2, 1.0, "unit vectors"),
        ([3, 5, 9], HEAD.weights, 0.0, "above 0"),
    ],
)
def test_refusals(ids: list[int], weights: np.ndarray, scale: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CosineClassifier(np.array(ids), weights, scale)
