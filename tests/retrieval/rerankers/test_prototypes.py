"""Prototypes by hand: means of photos, a classifier's centres in their place, and cosines to a query's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cairn.retrieval.rerankers.classifier import CosineClassifier
from cairn.retrieval.rerankers.prototypes import Prototypes, prototypes_of

VECTORS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.6, 0.8, 0]], dtype=np.float32)
SHOWN = np.array([7, 7, 3, 9])
ROOT_HALF = np.float32(np.sqrt(0.5))


def test_means_of_photos() -> None:
    got = prototypes_of(VECTORS, SHOWN, None)
    assert got.landmark_ids.tolist() == [3, 7, 9]
    np.testing.assert_allclose(got.vectors, [[0, 0, 1], [ROOT_HALF, ROOT_HALF, 0], [0.6, 0.8, 0]], atol=1e-6)


def test_a_trained_landmark_has_the_classifiers_centre() -> None:
    """Landmark 5 was trained on, but the index has no photo of it; of 7's two centres it is their mean."""
    weights = np.array([[[0, 1, 0], [0, 1, 0]], [[1, 0, 0], [0, 0, 1]]], dtype=np.float32)
    got = prototypes_of(VECTORS, SHOWN, CosineClassifier(np.array([5, 7]), weights, 30.0))
    np.testing.assert_allclose(got.vectors, [[0, 0, 1], [ROOT_HALF, 0, ROOT_HALF], [0.6, 0.8, 0]], atol=1e-6)


def test_cosines_are_to_each_querys_own_landmarks(tmp_path: Path) -> None:
    made = prototypes_of(VECTORS, SHOWN, None)
    made.save(tmp_path / "prototypes.npz")
    found = Prototypes.open(tmp_path / "prototypes.npz")
    asked = np.array([[9, 3, 8], [7, -1, 3]])
    got = found.cosines(VECTORS[:2], asked)
    np.testing.assert_allclose(got, [[0.6, 0, 0], [ROOT_HALF, 0, 0]], atol=1e-6)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rise"):
        Prototypes(np.array([3, 3]), VECTORS[:2])
    with pytest.raises(ValueError, match="unit vectors"):
        Prototypes(np.array([3]), 2 * VECTORS[:1])
    np.savez(tmp_path / "other.npz", vectors=VECTORS)
    with pytest.raises(ValueError, match="landmark_ids"):
        Prototypes.open(tmp_path / "other.npz")
