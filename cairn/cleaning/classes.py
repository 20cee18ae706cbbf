"""Landmarks with too few photos left to be learnt or found."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cairn.cleaning.reasons import SMALL_CLASS, Dropped, dropped
from cairn.manifest import NONE


def drop_small_classes(labels: NDArray[np.int64], rows: NDArray[np.int64], least: int) -> Dropped:
    """All photos of landmarks with fewer than `least` photos among `rows`; distractors stay.

    labels: int64 [photos], NONE for a distractor
    rows: int64 [some]
    """
    shown = rows[labels[rows] != NONE]
    _, held, sizes = np.unique(labels[shown], return_inverse=True, return_counts=True)
    few = sizes[held] < least
    said = zip(labels[shown[few]].tolist(), sizes[held][few].tolist(), strict=True)
    return dropped(shown[few], SMALL_CLASS, [f"landmark {label} has {size} photos left" for label, size in said])
