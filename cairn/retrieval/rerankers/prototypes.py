"""One unit vector a landmark: the classifier's own where it was trained on the landmark, else its photos' mean.

Prototypes are those of Snell et al. 2017, arXiv:1703.05175. A landmark that only the index knows so has its say beside
the trained ones, and one with a single photo loses nothing by having no mean to speak of.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cairn.retrieval.rerankers.classifier import CosineClassifier

PROTOTYPES_FILE = "prototypes.npz"


@dataclass(frozen=True)
class Prototypes:
    """Checked when made.

    landmark_ids: int64 [landmarks], rising
    vectors: unit vectors, float32 [landmarks, dimensions]
    """

    landmark_ids: NDArray[np.int64]
    vectors: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Raises ValueError if ids do not rise, or vectors are not a float32 unit vector a landmark."""
        ids, vectors = self.landmark_ids, self.vectors
        if ids.ndim != 1 or (np.diff(ids) <= 0).any():
            raise ValueError("prototypes' landmark ids must rise")
        if vectors.ndim != 2 or len(vectors) != len(ids) or vectors.dtype != np.float32:
            raise ValueError(f"prototypes need float32 vectors [{len(ids)}, d], not {vectors.dtype} {vectors.shape}")
        if not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3):
            raise ValueError("prototypes must be unit vectors")

    def cosines(self, queries: NDArray[np.float32], landmark_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Of each query, unit vectors [n, dimensions], to the prototypes of its own landmarks, int64 [n, k].

        Float32 [n, k]; 0 where a landmark has no prototype.
        """
        asked, place = np.unique(landmark_ids, return_inverse=True)
        at = np.searchsorted(self.landmark_ids, asked).clip(0, len(self.landmark_ids) - 1)
        known = self.landmark_ids[at] == asked
        cosines = np.where(known, queries @ self.vectors[at].T, np.float32(0))
        return np.take_along_axis(cosines, place.reshape(landmark_ids.shape), 1)

    def save(self, path: Path) -> None:
        """Write them; the same prototypes give the same bytes."""
        np.savez(path, landmark_ids=self.landmark_ids, vectors=self.vectors)

    @classmethod
    def open(cls, path: Path) -> Prototypes:
        """What `save` wrote. Raises FileNotFoundError, or ValueError if it is something else."""
        with np.load(path, allow_pickle=False) as parts:
            missing = {"landmark_ids", "vectors"} - set(parts.files)
            if missing:
                raise ValueError(f"{path}: no prototypes, {sorted(missing)} missing")
            return cls(parts["landmark_ids"], parts["vectors"])


def prototypes_of(
    vectors: NDArray[np.float32], landmark_ids: NDArray[np.int64], classifier: CosineClassifier | None
) -> Prototypes:
    """Of the index's photos: unit vectors float32 [photos, dimensions] and what they show, int64 [photos].

    Of several centres of a class, their mean.
    """
    landmarks, place = np.unique(landmark_ids, return_inverse=True)
    sums = np.zeros((len(landmarks), vectors.shape[1]))
    np.add.at(sums, place, vectors)
    if classifier is not None:
        trained = np.isin(landmarks, classifier.landmark_ids)
        at = np.searchsorted(classifier.landmark_ids, landmarks[trained])
        sums[trained] = classifier.weights[at].sum(axis=1)
    lengths = np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return Prototypes(landmarks, (sums / lengths).astype(np.float32))
