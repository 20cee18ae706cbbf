"""Rendered landmarks as RGB pictures, and the same seen askew."""

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
    """RGB uint8 [height, width, 3] of one of four landmarks."""
    rng = np.random.default_rng([landmark, shot])
    return np.asarray(photograph(design(4, 0)[landmark].mesh, rng, SIZE).convert("RGB"))


def homography(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Where `askew` moves the points of a picture: turned by ten degrees, reduced, in perspective; [3, 3]."""
    height, width = image.shape[:2]
    turn = np.vstack([cv2.getRotationMatrix2D((width / 2, height / 2), 10, 0.85), [0, 0, 1]])
    return np.array([[1, 0, 0], [0, 1, 0], [3e-4, 1e-4, 1]]) @ turn


def askew(image: NDArray[np.uint8], seed: int = 0) -> NDArray[np.uint8]:
    """The picture moved by its `homography`, darker and noisier."""
    height, width = image.shape[:2]
    seen = cv2.warpPerspective(image, homography(image), (width, height), borderValue=(90, 90, 90))
    noise = np.random.default_rng(seed).normal(0, 3, seen.shape)
    return np.clip(seen * 0.8 + 5 + noise, 0, 255).astype(np.uint8)


def moved(points: NDArray[np.float32], by: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points [n, 2] moved by a homography [3, 3]."""
    there = np.concatenate([points, np.ones((len(points), 1))], axis=1) @ by.T
    return np.asarray(there[:, :2] / there[:, 2:])
