"""How much a photo counts in a loss, by the size of its class. A new way is one line in CLASS_WEIGHTS."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# name -> weights that need not be normalised, float64 [classes], from photos of each class float64 [classes]
CLASS_WEIGHTS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "log": lambda sizes: 1 / np.log1p(sizes),
    "sqrt": lambda sizes: 1 / np.sqrt(sizes),
}


def class_weights(kind: str, class_sizes: NDArray[np.int64]) -> Tensor | None:
    """The weight of each class's photos, float32 [classes], of mean 1 over all photos; no weights for "none".

    log: proportional to 1 / log(1 + n) for n photos of the class, as in systems for Google Landmarks v2. sqrt: to
    1 / sqrt(n), which leaves large classes less.
    Raises ValueError if a class has no photo.
    """
    if kind == "none":
        return None
    if class_sizes.min() < 1:
        raise ValueError(f"class {int(class_sizes.argmin())} has {class_sizes.min()} photos; a weight needs at least 1")
    sizes = class_sizes.astype(np.float64)
    weights = CLASS_WEIGHTS[kind](sizes)
    return torch.from_numpy(weights * sizes.sum() / (weights @ sizes)).float()
