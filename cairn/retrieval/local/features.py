"""The result object of every extractor: where a photo's features lie, and what they look like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Features:
    """Features of one photo, checked when made.

    points: float32 [n, 2], x and y in pixels
    descriptors: unit vectors, float32 [n, dimensions]
    """

    points: NDArray[np.float32]
    descriptors: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Raises ValueError if shapes or types differ."""
        points, descriptors = self.points, self.descriptors
        if points.ndim != 2 or points.shape[1] != 2 or descriptors.ndim != 2 or len(points) != len(descriptors):
            raise ValueError(f"features need points [n, 2] and descriptors [n, d]: {points.shape}, {descriptors.shape}")
        if points.dtype != np.float32 or descriptors.dtype != np.float32:
            raise ValueError("features need float32 points and descriptors")

    def __len__(self) -> int:
        return len(self.points)


# grey uint8 [height, width] -> features
Extractor = Callable[[NDArray[np.uint8]], Features]
