"""SIFT (Lowe 2004) with root descriptors (Arandjelovic and Zisserman 2012), by OpenCV."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cairn.retrieval.local.features import Extractor, Features, strongest

DIMENSIONS = 128


def sift(max_features: int, min_strength: float) -> Extractor:
    """An extractor of the `max_features` strongest features of the grey photo; a strength is a contrast, under 1.

    Raises ImportError where OpenCV is not installed.
    """
    import cv2  # slow to import, and most who import this module compare no photos

    def extract(image: NDArray[np.uint8]) -> Features:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        keypoints, found = cv2.SIFT.create(nfeatures=max_features).detectAndCompute(grey, None)  # type: ignore[call-overload]
        if not keypoints:
            return Features(np.zeros((0, 2), np.float32), np.zeros((0, DIMENSIONS), np.float32))
        points = np.array([point.pt for point in keypoints], dtype=np.float32)
        kept = strongest(np.array([point.response for point in keypoints]), points, max_features, min_strength)
        return Features(points[kept], root(found[kept].astype(np.float32)))

    return extract


def root(descriptors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Square roots of descriptors [n, d], none negative, that sum up to 1: unit vectors; of zeros, zeros."""
    sums = np.maximum(descriptors.sum(axis=1, keepdims=True), np.float32(1e-12))
    return np.asarray(np.sqrt(descriptors / sums), dtype=np.float32)
