"""The network's head without the network: a softmax over what each landmark's weights make of a unit vector, kept in
one file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CLASSIFIER_FILE = "classifier.npz"
COSINE, LINEAR = "cosine", "linear"  # kinds, as the file names them
CLASS_BLOCK = 16_384  # classes whose centres are compared at once
HALVED = 2**26  # more weights than so many are float16 in the file: their cosines change by some 1e-4


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
        _check_ids(ids)
        if weights.ndim != 3 or len(weights) != len(ids) or weights.dtype != np.float32:
            raise ValueError(f"a classifier needs float32 weights [{len(ids)}, centres, d], not {weights.shape}")
        lengths = np.einsum("ckd,ckd->ck", weights, weights) ** 0.5  # norm would copy all weights
        if not np.allclose(lengths, 1, atol=1e-3) or not self.scale > 0:
            raise ValueError("a classifier's weights must be unit vectors, and its scale above 0")

    def __call__(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Unit vectors float32 [n, dimensions] -> probabilities float32 [n, classes]."""
        classes, centres, dimensions = self.weights.shape
        cosines = np.empty((len(vectors), classes), np.float32)
        for first in range(0, classes, CLASS_BLOCK):
            block = self.weights[first : first + CLASS_BLOCK]
            found = (vectors @ block.reshape(-1, dimensions).T).reshape(len(vectors), len(block), centres)
            cosines[:, first : first + CLASS_BLOCK] = found.max(axis=2)
        return _softmax(self.scale * cosines)

    def save(self, path: Path) -> None:
        """Write it; the same classifier gives the same bytes."""
        weights = _stored(self.weights)
        np.savez(path, kind=COSINE, landmark_ids=self.landmark_ids, weights=weights, scale=np.float64(self.scale))


@dataclass(frozen=True)
class LinearClassifier:
    """softmax(length x weights . vector + biases): a context's `classifier`. Checked when made.

    A linear classifier is trained on features as long as they come. An index and a server keep unit vectors, so here
    all features count as equally long: a photo's logits are its own but for the weight that its biases have.

    landmark_ids: int64 [classes], rising
    weights: float32 [classes, dimensions]
    biases: float32 [classes]
    length: of the features, a mean
    """

    landmark_ids: NDArray[np.int64]
    weights: NDArray[np.float32]
    biases: NDArray[np.float32]
    length: float

    def __post_init__(self) -> None:
        """Raises ValueError if ids do not rise, shapes or types differ, or length is not positive."""
        ids, weights, biases = self.landmark_ids, self.weights, self.biases
        _check_ids(ids)
        if weights.ndim != 2 or len(weights) != len(ids) or weights.dtype != np.float32:
            raise ValueError(f"a linear classifier needs float32 weights [{len(ids)}, d], not {weights.shape}")
        if biases.shape != ids.shape or biases.dtype != np.float32 or not self.length > 0:
            raise ValueError(f"a linear classifier needs float32 biases [{len(ids)}], and a length above 0")

    def __call__(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Unit vectors float32 [n, dimensions] -> probabilities float32 [n, classes]."""
        return _softmax(self.length * (vectors @ self.weights.T) + self.biases)

    def save(self, path: Path) -> None:
        """Write it; the same classifier gives the same bytes."""
        np.savez(
            path,
            kind=LINEAR,
            landmark_ids=self.landmark_ids,
            weights=_stored(self.weights),
            biases=self.biases,
            length=np.float64(self.length),
        )


SavedClassifier = CosineClassifier | LinearClassifier
PARTS = {
    COSINE: ("landmark_ids", "weights", "scale"),
    LINEAR: ("landmark_ids", "weights", "biases", "length"),
}


def open_classifier(path: Path) -> SavedClassifier:
    """What a classifier's `save` wrote. Raises FileNotFoundError, or ValueError if it is something else."""
    with np.load(path, allow_pickle=False) as parts:
        kind = str(parts["kind"]) if "kind" in parts.files else ""
        if kind not in PARTS:
            raise ValueError(f"{path}: no classifier of a kind known here ({', '.join(PARTS)}); run `dvc repro train`")
        missing = set(PARTS[kind]) - set(parts.files)
        if missing:
            raise ValueError(f"{path}: no classifier, {sorted(missing)} missing")
        found = {name: parts[name] for name in PARTS[kind]}
    ids, weights = found["landmark_ids"], found["weights"].astype(np.float32, copy=False)
    if kind == COSINE:
        return CosineClassifier(ids, weights, float(found["scale"]))
    return LinearClassifier(ids, weights, found["biases"], float(found["length"]))


def _stored(weights: NDArray[np.float32]) -> NDArray[np.floating]:
    """As they lie in the file."""
    return weights if weights.size <= HALVED else weights.astype(np.float16)


def _check_ids(ids: NDArray[np.int64]) -> None:
    if ids.ndim != 1 or len(ids) == 0 or (np.diff(ids) <= 0).any():
        raise ValueError("a classifier's landmark ids must rise, and there must be one at least")


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    odds = logits - logits.max(axis=1, keepdims=True)
    np.exp(odds, out=odds)  # in place: with many classes each of these is a large matrix
    odds /= odds.sum(axis=1, keepdims=True)
    return np.asarray(odds, dtype=np.float32)
