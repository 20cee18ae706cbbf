"""The batches that a TensorRT plan is made for, and is tried with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cairn.serving.plans import PlanSettings


class Profile(NamedTuple):
    """The input's shapes [batch, size, size, 3] that a plan takes and is tuned for."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]


def profile_of(settings: PlanSettings) -> Profile:
    """From one photo, which must have its answer, to the largest batch."""
    shape = (settings.size, settings.size, 3)
    return Profile((1, *shape), (settings.opt_batch, *shape), (settings.max_batch, *shape))


def batches_of(images: NDArray[np.uint8], sizes: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
    """The rows of `images` in order, in batches of `sizes` in turn; the last may be smaller."""
    start = 0
    for size in cycle(sizes):
        if start >= len(images):
            return
        yield np.ascontiguousarray(images[start : start + size])
        start += size
