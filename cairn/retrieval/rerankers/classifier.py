"""The network's head without the network: a softmax over cosines to each landmark's weights, kept in one file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CLASSIFIER_FILE = "classifier.npz"


@dataclass(frozen=True)
class CosineClassifier:
    """softmax(scale x largest cosine to any of a landmark's centres): a context's `classifier`. Checked when made.

    landmark_ids: int64 [classes], rising
    weights: float32 [classes, centres, dimensions], unit vectors; one centre for ArcFace (Deng et al. 2019,
        arXiv:1801.07698), several for sub-center ArcFace (Deng et al. 2020)
    scale: of the loss
    """

    landmark_ids: NDArray[np.int64]
    weights: NDArray[np.float32]
    scale: float

    def __post_init__(self) -> None:
        """Raises ValueError if ids do not rise, shapes differ, weights are no unit vectors or scale is not positive."""
        ids, weights = self.landmark_ids, self.weights
        if ids.ndim != 1 or len(ids) == 0 or (np.diff(ids) <= 0).any():
            raise ValueError("a classifier's landmark ids must rise, and there must be one at least")
        if weights.ndim != 3 or len(weights) != len(ids) or weights.dtype != np.float32:
            raise ValueError(f"a classifier needs float32 weights [{len(ids)}, centres, d], not {weights.shape}")
        if not np.allclose(np.linalg.norm(weights, axis=2), 1, atol=1e-3) or not self.scale > 0:
            raise ValueError("a classifier's weights must be unit vectors, and its scale above 0")

    def __call__(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Unit vectors float32 [n, dimensions] -> probabilities float32 [n, classes]."""
        classes, centres, dimensions = self.weights.shape
        cosines = (vectors @ self.weights.reshape(-1, dimensions).T).reshape(len(vectors), classes, centres)
        logits = self.scale * cosines.max(axis=2)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True), dtype=np.float32)

    def save(self, path: Path) -> None:
        """Write it; the same classifier gives the same bytes."""
        np.savez(path, landmark_ids=self.landmark_ids, weights=self.weights, scale=np.float64(self.scale))

    @classmethod
    def open(cls, path: Path) -> CosineClassifier:
        """What `save` wrote. Raises FileNotFoundError, or ValueError if it is something else."""
        with np.load(path, allow_pickle=False) as parts:
            missing = {"landmark_ids", "weights", "scale"} - set(parts.files)
            if missing:
                raise ValueError(f"{path}: no classifier, {sorted(missing)} missing")
            return cls(parts["landmark_ids"], parts["weights"], float(parts["scale"]))
