"""Do two photos show one thing? Matched features, and how many of them one homography explains."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cairn.retrieval.local.features import Features

NEEDED = 4  # matches that fix a homography
TRIALS = 2000
CONFIDENCE = 0.999


def mutual_matches(a: Features, b: Features, ratio: float) -> NDArray[np.int64]:
    """Rows of `a` and `b` that are each other's nearest, int64 [matches, 2], rising in `a`.

    Either one's distance to its nearest must be below `ratio` times that to its second (Lowe 2004), seen from both.
    """
    if len(a) == 0 or len(b) == 0:
        return np.zeros((0, 2), dtype=np.int64)
    distances = np.sqrt(np.clip(2 - 2 * (a.descriptors @ b.descriptors.T), 0, None))
    there, clear_there = _nearest(distances, ratio)
    back, clear_back = _nearest(distances.T, ratio)
    rows = np.flatnonzero(clear_there & clear_back[there] & (back[there] == np.arange(len(a))))
    return np.stack([rows, there[rows]], axis=1).astype(np.int64)


def _nearest(distances: NDArray[np.float32], ratio: float) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The nearest column of each row, and whether it is clearly nearer than the second; a lone one is."""
    nearest = distances.argmin(axis=1)
    if distances.shape[1] < 2:
        return nearest, np.ones(len(distances), dtype=bool)
    first, second = np.partition(distances, 1, axis=1)[:, :2].T
    return nearest, first < ratio * second


def count_inliers(a: NDArray[np.float32], b: NDArray[np.float32], pixels: float, seed: int) -> int:
    """How many of the matched points a, b, float32 [n, 2], one homography brings within `pixels` of each other.

    MAGSAC++ (Barath et al. 2020, arXiv:1912.05909) by OpenCV; the same points and seed give the same count. 0 for fewer
    than four points, and where the best homography mirrors the picture. Unrelated photos have a few by chance.
    """
    import cv2  # the server's environment has none

    if len(a) < NEEDED:
        return 0
    params = cv2.UsacParams()
    params.score, params.sampler = cv2.SCORE_METHOD_MAGSAC, cv2.SAMPLING_UNIFORM
    params.loMethod, params.loIterations, params.loSampleSize = cv2.LOCAL_OPTIM_SIGMA, 10, 14
    params.final_polisher, params.final_polisher_iterations = cv2.MAGSAC, 3
    params.threshold, params.confidence, params.maxIterations = pixels, CONFIDENCE, TRIALS
    params.randomGeneratorState, params.isParallel = seed, False
    homography, inside = cv2.findHomography(a, b, params)
    if homography is None or np.linalg.det(homography[:2, :2]) <= 0:
        return 0
    return int(inside.sum())
