"""Do two photos show one thing? Matched features, and which of them one movement of the plane explains."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cairn.retrieval.local.features import Features

Geometry = Literal["homography", "affine"]
NEEDED = {"homography": 4, "affine": 3}  # matches that fix one
CONFIDENCE = 0.999  # that a better one would have been met: trials end before their number is up


def matches(
    a: Features, b: Features, mutual: bool, ratio: float | None, max_distance: float | None
) -> NDArray[np.int64]:
    """Rows of `a`, rising, each with the row of `b` that is nearest to it, int64 [matches, 2].

    mutual: only rows that are each other's nearest; otherwise several of `a` may share one of `b`
    ratio: only where the distance to the nearest is below so many times that to the second (Lowe 2004); if mutual, seen
        from both. None: anywhere
    max_distance: only up to this Euclidean distance of the unit vectors, 0 to 2. None: any
    """
    if len(a) == 0 or len(b) == 0:
        return np.zeros((0, 2), dtype=np.int64)
    similarities = a.descriptors @ b.descriptors.T
    rows = np.arange(len(a))
    there, kept = _nearest(similarities, ratio)
    if mutual:
        back, clear_back = _nearest(similarities.T, ratio)
        kept = kept & clear_back[there] & (back[there] == rows)
    if max_distance is not None:
        kept = kept & (_distances(similarities[rows, there]) <= max_distance)
    return np.stack([rows[kept], there[kept]], axis=1).astype(np.int64)


def _nearest(similarities: NDArray[np.float32], ratio: float | None) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The nearest column of each row, and whether it is clearly nearer than the second; a lone one is."""
    nearest, rows = similarities.argmax(axis=1), np.arange(len(similarities))
    if ratio is None or similarities.shape[1] < 2:
        return nearest, np.ones(len(rows), dtype=bool)
    others = similarities.copy()
    others[rows, nearest] = -np.inf
    first, second = similarities[rows, nearest], others.max(axis=1)
    return nearest, _distances(first) < ratio * _distances(second)


def _distances(similarities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Euclidean, of unit vectors with these dot products."""
    return np.asarray(np.sqrt(np.clip(2 - 2 * similarities, 0, None)))


def inliers(
    a: NDArray[np.float32], b: NDArray[np.float32], geometry: Geometry, pixels: float, trials: int, seed: int
) -> NDArray[np.bool_]:
    """Which of the matched points a, b, float32 [n, 2], one movement brings within `pixels` of each other, bool [n].

    homography: MAGSAC++ (Barath et al. 2020, arXiv:1912.05909); none fit where the best one mirrors the picture
    affine: plain RANSAC (Fischler and Bolles 1981) with three matches a trial, as in DELF; it may mirror

    By OpenCV; the same points and seed give the same answer. None fit where matches are too few to fix a movement.
    Unrelated photos have a few inliers by chance.
    """
    import cv2  # slow to import, and most who import this module compare no photos

    nothing = np.zeros(len(a), dtype=bool)
    if len(a) < NEEDED[geometry]:
        return nothing
    params: Any = cv2.UsacParams()
    params.sampler, params.randomGeneratorState, params.isParallel = cv2.SAMPLING_UNIFORM, seed, False
    params.threshold, params.confidence, params.maxIterations = pixels, CONFIDENCE, trials
    if geometry == "affine":
        params.score, params.loMethod, params.final_polisher = (
            cv2.SCORE_METHOD_RANSAC,
            cv2.LOCAL_OPTIM_NULL,
            cv2.NONE_POLISHER,
        )
        found, inside = cv2.estimateAffine2D(a, b, params)
        return nothing if found is None else np.asarray(inside[:, 0] != 0)
    params.score = cv2.SCORE_METHOD_MAGSAC
    params.loMethod, params.loIterations, params.loSampleSize = cv2.LOCAL_OPTIM_SIGMA, 10, 14
    params.final_polisher, params.final_polisher_iterations = cv2.MAGSAC, 3
    found, inside = cv2.findHomography(a, b, params)
    if found is None:
        return nothing
    explained = np.asarray(inside[:, 0] != 0)
    return nothing if _mirrors(np.asarray(found, np.float64), a[explained]) else explained


def _mirrors(homography: NDArray[np.float64], points: NDArray[np.float32]) -> bool:
    """Whether a plane is turned over where most of `points` [n, 2] lie: the sign of the map's determinant there, which
    is det(H) / w^3 with w the point's third coordinate after H (Hartley and Zisserman 2004).
    """
    scales = points @ homography[2, :2] + homography[2, 2]
    return bool((np.linalg.det(homography) * scales <= 0).mean() > 0.5)
