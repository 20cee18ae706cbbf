"""The result object of every search: each query's nearest index photos, best first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Neighbours:
    """Three arrays of shape [queries, k], checked when made.

    image_ids: int64, as `cairn.manifest.as_number` makes them; only meaningful where landmark_ids is not NONE
    landmark_ids: int64, NONE behind the last neighbour found
    scores: float32, falling along each row; -inf where there is none
    """

    image_ids: NDArray[np.int64]
    landmark_ids: NDArray[np.int64]
    scores: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Raises ValueError if shapes or types differ, or a row's scores rise."""
        shapes = {self.image_ids.shape, self.landmark_ids.shape, self.scores.shape}
        if len(shapes) != 1 or self.scores.ndim != 2:
            raise ValueError(f"neighbours need three arrays [queries, k] of one shape, not {shapes}")
        if (
            any(array.dtype != np.int64 for array in (self.image_ids, self.landmark_ids))
            or self.scores.dtype != np.float32
        ):
            raise ValueError("neighbours need int64 image ids, int64 landmark ids and float32 scores")
        if self.scores.size and (self.scores[:, 1:] > self.scores[:, :-1]).any():
            raise ValueError("neighbours' scores must fall along each row")

    def __len__(self) -> int:
        return len(self.scores)

    def only(self, chosen: NDArray[np.generic]) -> Neighbours:
        """Those of the chosen queries, bool [queries] or row numbers in any order."""
        return Neighbours(self.image_ids[chosen], self.landmark_ids[chosen], self.scores[chosen])


def joined_neighbours(parts: Sequence[Neighbours]) -> Neighbours:
    """Those of several sets of queries, one at least, as one."""
    return Neighbours(
        np.concatenate([part.image_ids for part in parts]),
        np.concatenate([part.landmark_ids for part in parts]),
        np.concatenate([part.scores for part in parts]),
    )
