"""Losses over embeddings. A new one is one file here, its params in params.py, and one builder in LOSSES.

Builders import their loss when called, so that params can be read without importing torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cairn.losses.params import ArcFaceParams, SoftmaxParams, SubCenterParams, TripletParams

if TYPE_CHECKING:
    from cairn.losses.base import LossHead


def _arcface(dimensions: int, class_sizes: NDArray[np.int64], params: ArcFaceParams) -> LossHead:
    from cairn.losses.arcface import ArcFace

    return ArcFace(dimensions, len(class_sizes), params.scale, params.margin)


def _subcenter(dimensions: int, class_sizes: NDArray[np.int64], params: SubCenterParams) -> LossHead:
    from cairn.losses.subcenter import SubCenterArcFace

    return SubCenterArcFace(
        dimensions, class_sizes, params.scale, params.margin_low, params.margin_high, params.centres
    )


def _softmax(dimensions: int, class_sizes: NDArray[np.int64], params: SoftmaxParams) -> LossHead:
    from cairn.losses.softmax import Softmax

    return Softmax(dimensions, len(class_sizes), params.label_smoothing)


def _triplet(dimensions: int, class_sizes: NDArray[np.int64], params: TripletParams) -> LossHead:
    from cairn.losses.triplet import Triplet

    return Triplet(dimensions, len(class_sizes), params.memory)


# name -> head with the loss in it, from (dimensions, photos of each class int64 [classes], the loss's own params)
LOSSES: dict[str, Callable[[int, NDArray[np.int64], Any], LossHead]] = {
    "arcface": _arcface,
    "subcenter": _subcenter,
    "softmax": _softmax,
    "triplet": _triplet,
}
