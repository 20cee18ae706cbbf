"""Global Average Precision (GAP, micro average precision): the official metric of Google Landmarks recognition.

Answers, at most one an image, are ordered by score (falling), then image id (rising). GAP is the sum of the precision
among the first n answers over every n whose answer is right, divided by the number of images that show a landmark. An
answer to an image that shows none is wrong. Weyand et al. 2020 (GLDv2), arXiv:2004.01804; after Perronnin et al. 2009.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cairn.metrics.inputs import MetricError, scored_answers


def gap_of(scores: ArrayLike, right: ArrayLike, landmark_queries: int, image_ids: ArrayLike) -> float:
    """GAP in [0, 1] from arrays: scores [n], right bool [n] and image_ids [n], one row per answered query.

    Equal scores are ordered by image id. Signed integers among the image ids are read as the 64 bits of a hexadecimal
    id, so that they sort like it. A score of -inf stands last.

    Raises MetricError if shapes differ, an image id comes twice, a score is NaN, or landmark_queries is below one or
    below the number of right answers.
    """
    values, flags = scored_answers(scores, right, landmark_queries)
    ids = _sortable(np.asarray(image_ids))
    if ids.shape != values.shape:
        raise MetricError(f"image_ids {ids.shape} and scores {values.shape} must both be [n]")
    if len(np.unique(ids)) < len(ids):
        raise MetricError("an image id comes twice; GAP takes one answer per image")
    ordered = flags[np.lexsort((ids, -values))]
    precision = np.cumsum(ordered) / np.arange(1, len(ordered) + 1)
    return float(precision[ordered].sum() / landmark_queries)


def _sortable(image_ids: NDArray[np.generic]) -> NDArray[np.generic]:
    return image_ids.astype(np.uint64) if np.issubdtype(image_ids.dtype, np.signedinteger) else image_ids
