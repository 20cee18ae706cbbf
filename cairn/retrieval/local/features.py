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

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return self.points.nbytes + self.descriptors.nbytes


# RGB uint8 [height, width, 3] -> features, points in its pixels, (0, 0) the middle of the upper left one
Extractor = Callable[[NDArray[np.uint8]], Features]


def strongest(
    strengths: NDArray[np.floating], points: NDArray[np.float32], most: int, over: float
) -> NDArray[np.int64]:
    """Rows of the `most` strongest of points [n, 2] whose strength [n] is over `over`, int64 [kept], strongest first.

    Of equally strong ones the one further left comes first, then the upper one.
    """
    order = np.lexsort((points[:, 1], points[:, 0], -strengths))
    return order[strengths[order] > over][:most].astype(np.int64)
