"""Global Average Precision (GAP, micro average precision): the official metric of Google Landmarks recognition.

Answers are ordered by score (falling), then image id, then class (both rising). GAP is the sum of the precision among
the first n answers over every n whose answer is right, divided by the number of images that show a landmark. An answer
to an image that shows none is wrong. Weyand et al. 2020 (GLDv2), arXiv:2004.01804; after Perronnin et al. 2009.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cairn.metrics.inputs import MetricError, require_landmark_queries, scored_answers


class Prediction(NamedTuple):
    """The one answer given to an image. An image left without an answer has no prediction."""

    image_id: str
    landmark_id: int
    score: float


def gap(
    predictions: Sequence[Prediction],
    truth: Mapping[str, Collection[int]],
    ignore_non_landmark: bool = False,
) -> float:
    """GAP in [0, 1] of at most one prediction per image against each image's true labels (empty: no landmark).

    Any one of an image's labels is right. With `ignore_non_landmark`, predictions for images without a label are left
    out instead of counted wrong; the competition does not do that.

    Raises MetricError if an image is predicted twice or is not in `truth`, a score is NaN, or no image has a label.
    """
    _check_images(predictions, truth)
    landmark_images = sum(1 for labels in truth.values() if labels)
    kept = [p for p in predictions if truth[p.image_id] or not ignore_non_landmark]
    kept.sort(key=lambda p: (-p.score, p.image_id, p.landmark_id))
    right = [p.landmark_id in truth[p.image_id] for p in kept]
    _, flags = scored_answers([p.score for p in kept], right, landmark_images)
    return _mean_precision(flags, landmark_images)


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
    return _mean_precision(flags[np.lexsort((ids, -values))], landmark_queries)


def _mean_precision(right: NDArray[np.bool_], landmark_queries: int) -> float:
    """Sum of the precision at each right answer, `right` being in order, over the number of landmark queries."""
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    return float(precision[right].sum() / landmark_queries)


def _sortable(image_ids: NDArray[np.generic]) -> NDArray[np.generic]:
    return image_ids.astype(np.uint64) if np.issubdtype(image_ids.dtype, np.signedinteger) else image_ids


def _check_images(predictions: Sequence[Prediction], truth: Mapping[str, Collection[int]]) -> None:
    require_landmark_queries(sum(1 for labels in truth.values() if labels))
    for image_id, count in Counter(p.image_id for p in predictions).items():
        if count > 1:
            raise MetricError(f"image {image_id} is predicted {count} times; GAP takes one prediction per image")
        if image_id not in truth:
            raise MetricError(f"image {image_id} is predicted but is not among the {len(truth)} images of the truth")
    nan = next((p.image_id for p in predictions if p.score != p.score), None)
    if nan is not None:
        raise MetricError(f"image {nan} has score NaN; leave images without an answer out")
