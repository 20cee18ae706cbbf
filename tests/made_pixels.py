"""Photos for tests of exported networks: as these take them, and as the networks in torch do."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cairn.answering.preprocess import Preprocessing, normalise


def made(count: int, how: Preprocessing) -> tuple[NDArray[np.uint8], Tensor]:
    """RGB noise uint8 [count, size, size, 3], and the same normalised, float32 [count, 3, size, size]."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, how.size, how.size, 3), dtype=np.uint8)
    return pixels, torch.from_numpy(np.stack([normalise(Image.fromarray(each), how) for each in pixels]))
