"""The place of each value among those equal to it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def earlier_alike(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of the same value stand before each, int64 [values]."""
    order = np.argsort(values, kind="stable")
    _, first, counts = np.unique(values[order], return_index=True, return_counts=True)
    found = np.empty(len(values), np.int64)
    found[order] = np.arange(len(values)) - np.repeat(first, counts)
    return found
