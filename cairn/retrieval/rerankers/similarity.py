"""Cosines that several re-rankers need: how near distractors come to a vector, and vectors found by image id."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cairn.retrieval.vectors import UnitVectors

CELLS = 2**25  # cosines held at a time: 128 MB


def mean_of_nearest(vectors: NDArray[np.float32], others: NDArray[np.float32], top: int) -> NDArray[np.float32]:
    """Mean cosine of each unit vector [n, dimensions] to the `top` nearest of `others` [m, dimensions], float32 [n].

    With fewer than `top` others, the mean over all of them.
    """
    top = min(top, len(others))
    step = max(1, CELLS // len(others))
    means = np.empty(len(vectors), dtype=np.float32)
    for start in range(0, len(vectors), step):
        cosines = vectors[start : start + step] @ others.T
        nearest = np.partition(cosines, len(others) - top, axis=1)[:, len(others) - top :]
        means[start : start + step] = nearest.mean(axis=1, dtype=np.float64)
    return means


class VectorsById:
    """Unit vectors looked up by image id: a context's `vectors`."""

    def __init__(
        self, image_ids: NDArray[np.int64], vectors: UnitVectors, rows: NDArray[np.int64] | None = None
    ) -> None:
        """image_ids int64 [photos] in any order, vectors float32 [any, dimensions].

        rows: where each photo's is, int64 [photos]; none: they are in the order of the ids.
        """
        order = np.argsort(image_ids, kind="stable")
        self._ids, self._rows, self._vectors = image_ids[order], order if rows is None else rows[order], vectors

    def __call__(self, image_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """int64 [n] -> float32 [n, dimensions]. Raises KeyError if an image is not among them."""
        at = np.searchsorted(self._ids, image_ids).clip(0, max(0, len(self._ids) - 1))
        unknown = self._ids[at] != image_ids if len(self._ids) else np.ones(len(image_ids), dtype=bool)
        if unknown.any():
            raise KeyError(f"no vector of image {image_ids[unknown][0]}")
        found: NDArray[np.float32] = self._vectors[self._rows[at]]
        return found
