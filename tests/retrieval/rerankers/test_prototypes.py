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
    assert got.photos.tolist() == [1, 2, 1]
    np.testing.assert_allclose(got.vectors, [[0, 0, 1], [ROOT_HALF, ROOT_HALF, 0], [0.6, 0.8, 0]], atol=1e-6)


def test_a_trained_landmark_has_the_classifiers_centre() -> None:
    """Landmark 5 was trained on, but the index has no photo of it; of 7's two centres it is their mean."""
    weights = np.array([[[0, 1, 0], [0, 1, 0]], [[1, 0, 0], [0, 0, 1]]], dtype=np.float32)
    got = prototypes_of(VECTORS, SHOWN, CosineClassifier(np.array([5, 7]), weights, 30.0))
    np.testing.assert_allclose(got.vectors, [[0, 0, 1], [ROOT_HALF, 0, ROOT_HALF], [0.6, 0.8, 0]], atol=1e-6)
    assert got.photos.tolist() == [1, 0, 1]


def test_likeness_is_to_each_querys_own_landmarks(tmp_path: Path) -> None:
    made = prototypes_of(VECTORS, SHOWN, None)
    made.save(tmp_path / "prototypes.npz")
    found = Prototypes.open(tmp_path / "prototypes.npz")
    asked = np.array([[9, 3, 8], [7, -1, 3]])
    got = found.likeness(VECTORS[:2], asked, within=1.0)
    np.testing.assert_allclose(got, [[0.6, 0, 0], [ROOT_HALF, 0, 0]], atol=1e-6)


def test_a_mean_of_few_gets_back_what_averaging_took() -> None:
    """Photos are a landmark's direction and as much of their own again: cosine .5. The likeness of a query to the mean
    of any number of them is, in the mean, that to the mean of very many: sqrt(.5).
    """
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(2000, 1200)))[0].T
    photos = np.sqrt(0.5) * (directions[:1] + directions[1:]).astype(np.float32)
    queries, others = photos[:400], photos[400:]
    for count in (1, 4, 700):
        made = prototypes_of(others[:count], np.zeros(count, dtype=np.int64), None)
        got = made.likeness(queries, np.zeros((len(queries), 1), dtype=np.int64), within=0.5)
        assert got.mean() == pytest.approx(np.sqrt(0.5), abs=0.002)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rise"):
        Prototypes(np.array([3, 3]), VECTORS[:2], np.array([1, 1]))
    with pytest.raises(ValueError, match="unit vectors"):
        Prototypes(np.array([3]), 2 * VECTORS[:1], np.array([1]))
    with pytest.raises(ValueError, match="count"):
        Prototypes(np.array([3]), VECTORS[:1], np.array([-1]))
    np.savez(tmp_path / "other.npz", vectors=VECTORS)
    with pytest.raises(ValueError, match="landmark_ids"):
        Prototypes.open(tmp_path / "other.npz")


def test_the_same_some_landmarks_and_photos_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    vectors, shown = rng.normal(size=(300, 8)).astype(np.float32), rng.integers(0, 40, 300)
    weights = rng.normal(size=(5, 1, 8)).astype(np.float32)
    weights /= np.linalg.norm(weights, axis=2, keepdims=True)
    head = CosineClassifier(np.arange(0, 50, 10), weights, 30.0)
    rows = np.sort(rng.permutation(300)[:250])
    whole = prototypes_of(vectors[rows], shown[rows], head)
    queries = vectors[:6] / np.linalg.norm(vectors[:6], axis=1, keepdims=True)
    asked = rng.integers(0, 40, (6, 9))
    likeness = whole.likeness(queries, asked, 0.6)
    for name, size in (("LANDMARKS", 7), ("ROWS", 11), ("PAIRS", 3)):
        monkeypatch.setattr(f"cairn.retrieval.rerankers.prototypes.{name}", size)
    parts = prototypes_of(vectors, shown[rows], head, rows)
    assert np.array_equal(parts.vectors, whole.vectors)
    assert np.array_equal(parts.photos, whole.photos)
    np.testing.assert_allclose(parts.likeness(queries, asked, 0.6), likeness, rtol=1e-5)
