"""The classifier against a plain softmax, its file, and what it refuses."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from retrieval.rerankers.small_world import unit

from cairn.retrieval.rerankers.classifier import CosineClassifier, LinearClassifier, SavedClassifier, open_classifier

RNG = np.random.default_rng(0)
HEAD = CosineClassifier(np.array([3, 5, 9]), unit(RNG.normal(size=(3, 2, 4))), 6.0)
LINEAR = LinearClassifier(
    HEAD.landmark_ids, RNG.normal(size=(3, 4)).astype(np.float32), RNG.normal(size=3).astype(np.float32), 7.0
)
VECTORS = unit(RNG.normal(size=(5, 4)))


def test_a_softmax_over_the_nearest_centres() -> None:
    got = HEAD(VECTORS)
    for row, x in enumerate(VECTORS):
        odds = [math.exp(6 * max(float(x @ centre) for centre in centres)) for centres in HEAD.weights]
        np.testing.assert_allclose(got[row], [o / sum(odds) for o in odds], rtol=1e-5)


def test_a_softmax_over_linear_logits_of_vectors_of_the_mean_length() -> None:
    got = LINEAR(VECTORS)
    for row, x in enumerate(VECTORS):
        odds = [math.exp(float(7 * x @ w + b)) for w, b in zip(LINEAR.weights, LINEAR.biases, strict=True)]
        np.testing.assert_allclose(got[row], [o / sum(odds) for o in odds], rtol=1e-5)


def test_a_large_scale_does_not_overflow() -> None:
    sharp = CosineClassifier(HEAD.landmark_ids, HEAD.weights, 1e4)(VECTORS)
    np.testing.assert_allclose(sharp.sum(axis=1), 1)
    assert HEAD(VECTORS[:0]).shape == (0, 3)


@pytest.mark.parametrize("head", [HEAD, LINEAR])
def test_its_file_has_the_same_bytes_and_gives_the_same_classifier(tmp_path: Path, head: SavedClassifier) -> None:
    for name in ("a.npz", "b.npz"):
        head.save(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    again = open_classifier(tmp_path / "a.npz")
    assert type(again) is type(head)
    assert np.array_equal(again(VECTORS), head(VECTORS))


def test_another_file_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "c.npz", kind="cosine", weights=HEAD.weights)
    with pytest.raises(ValueError, match=r"\['landmark_ids', 'scale'\] missing"):
        open_classifier(tmp_path / "c.npz")
    for kind in ({}, {"kind": "trees"}):
        np.savez(tmp_path / "c.npz", weights=HEAD.weights, **kind)
        with pytest.raises(ValueError, match=r"known here \(cosine, linear\)"):
            open_classifier(tmp_path / "c.npz")


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


@pytest.mark.parametrize(
    ("weights", "biases", "length", "said"),
    [
        (LINEAR.weights[:2], LINEAR.biases, 1.0, "weights"),
        (LINEAR.weights.astype(np.float64), LINEAR.biases, 1.0, "weights"),
        (LINEAR.weights, LINEAR.biases[:2], 1.0, "biases"),
        (LINEAR.weights, LINEAR.biases, 0.0, "length above 0"),
    ],
)
def test_refusals_of_a_linear_one(weights: np.ndarray, biases: np.ndarray, length: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LinearClassifier(LINEAR.landmark_ids, weights, biases, length)
