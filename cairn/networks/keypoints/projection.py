"""Descriptors made shorter by principal components, learnt from those of some photos."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Projection:
    """mean float32 [dimensions], components float32 [dimensions, fewer], orthonormal, of falling variance."""

    mean: NDArray[np.float32]
    components: NDArray[np.float32]

    def __call__(self, descriptors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Unit vectors float32 [n, fewer] of descriptors [n, dimensions]; one equal to the mean gives zeros."""
        shorter = (descriptors - self.mean) @ self.components
        return np.asarray(shorter / np.maximum(np.linalg.norm(shorter, axis=1, keepdims=True), 1e-12), dtype=np.float32)


def fit_projection(descriptors: NDArray[np.float32], dimensions: int) -> Projection:
    """The principal components of descriptors [n, d]; not whitened, as DELF's (Noh et al. 2017, arXiv:1612.06321).

    Raises ValueError if there are no more than `dimensions` descriptors, or they have fewer dimensions.
    """
    count, width = descriptors.shape
    if width < dimensions or count <= dimensions:
        raise ValueError(
            f"local_features.dimensions = {dimensions} needs more than {dimensions} local features of as many "
            f"dimensions on the train side; it has {count} of {width}"
        )
    mean = descriptors.mean(axis=0, dtype=np.float64)
    apart = descriptors - mean
    _, vectors = np.linalg.eigh(apart.T @ apart)
    return Projection(mean.astype(np.float32), vectors[:, ::-1][:, :dimensions].astype(np.float32))
