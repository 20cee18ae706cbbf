"""Rendered landmarks as grey pictures, and the same seen askew."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from cairn.sources.synthetic import design
from cairn.sources.synthetic.scene import photograph

SIZE = 320


@cache
def picture(landmark: int, shot: int = 0) -> NDArray[np.uint8]:
    """Grey uint8 [height, width] of one of four landmarks."""
    rng = np.random.default_rng([landmark, shot])
    return np.asarray(photograph(design(4, 0)[landmark].mesh, rng, SIZE).convert("L"))


def askew(image: NDArray[np.uint8], seed: int = 0) -> NDArray[np.uint8]:
    """Turned by ten degrees, reduced, in perspective, darker and noisier."""
    height, width = image.shape
    turn = np.vstack([cv2.getRotationMatrix2D((width / 2, height / 2), 10, 0.85), [0, 0, 1]])
    warp = np.array([[1, 0, 0], [0, 1, 0], [3e-4, 1e-4, 1]]) @ turn
    seen = cv2.warpPerspective(image, warp, (width, height), borderValue=90)
    noise = np.random.default_rng(seed).normal(0, 3, seen.shape)
    return np.clip(seen * 0.8 + 5 + noise, 0, 255).astype(np.uint8)
