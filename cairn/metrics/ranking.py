"""How good the ranked photos are: recall at k, and mean average precision at k as GLDv2's retrieval task counts it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cairn.metrics.inputs import NONE, MetricError, require_integers, require_landmark_queries


def recall_at_k(true: ArrayLike, ranked: ArrayLike, k: int) -> float:
    """Share in [0, 1] of landmark queries with at least one photo of their landmark among the first k.

    true: int [n], NONE (-1) for a query that shows no landmark: left out. ranked: int [n, depth], the landmark of each
    photo found, best first, NONE behind the last. A landmark without a photo in the index counts as missed.

    Raises MetricError if shapes differ, k is not in 1..depth, or no query shows a landmark.
    """
    expected, hits = _hits(true, ranked, k)
    shown = expected != NONE
    require_landmark_queries(int(shown.sum()))
    return float(hits[shown].any(axis=1).mean())


def mean_average_precision(true: ArrayLike, ranked: ArrayLike, relevant: ArrayLike, k: int) -> float:
    """mAP@k in [0, 1]: the mean of `average_precision` over landmark queries with a photo in the index.

    true and ranked as in `recall_at_k`; relevant: int [n], how many photos of the query's landmark the index holds.
    Queries without a landmark and those whose landmark the index does not hold are left out.

    Raises MetricError as `recall_at_k` and `average_precision` do, or if no query is left.
    """
    expected, hits = _hits(true, ranked, k)
    counts = np.asarray(relevant)
    if counts.shape != expected.shape:
        raise MetricError(f"relevant {counts.shape} and true {expected.shape} must both be [n], a row per query")
    kept = (expected != NONE) & (counts != 0)
    require_landmark_queries(int(kept.sum()))
    return float(average_precision(hits[kept], counts[kept], k).mean())


def average_precision(hits: ArrayLike, relevant: ArrayLike, k: int) -> NDArray[np.float64]:
    """AP@k per query, float64 [n] in [0, 1]: 1 / min(m, k) times the sum over ranks i <= k of P(i) rel(i).

    hits: bool [n, depth], rel: whether the photo at each rank is right. relevant: int [n], m: how many right photos
    there are. P(i) is the share of right photos among the first i. Weyand et al. 2020 (GLDv2), arXiv:2004.01804.

    Raises MetricError if shapes differ, k is below one, m is below one or below the right photos found.
    """
    found, counts = np.asarray(hits), np.asarray(relevant)
    if found.ndim != 2 or counts.shape != found.shape[:1]:
        raise MetricError(f"hits {found.shape} must be [n, depth] and relevant {counts.shape} [n], a row per query")
    if found.dtype != np.bool_:
        raise MetricError(
            f"hits must be bool, not {found.dtype}; compare the ranked landmarks with the true ones first"
        )
    if k < 1:
        raise MetricError(f"k = {k}; it must be at least 1")
    short = (counts < 1) | (counts < found.sum(axis=1))
    if short.any():
        row = int(short.argmax())
        raise MetricError(f"query {row}: {found[row].sum()} right photos found, but relevant is {counts[row]}")
    found = found[:, :k]
    precision = np.cumsum(found, axis=1) / np.arange(1, found.shape[1] + 1)
    means: NDArray[np.float64] = (precision * found).sum(axis=1) / np.minimum(counts, k)
    return means


def _hits(true: ArrayLike, ranked: ArrayLike, k: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """True labels int64 [n], and bool [n, k]: whether each label is the query's (ignore rows whose query has none)."""
    expected, found = np.asarray(true), np.asarray(ranked)
    if expected.ndim != 1 or found.ndim != 2 or len(found) != len(expected):
        raise MetricError(f"true {expected.shape} must be [n] and ranked {found.shape} [n, depth], a row per query")
    require_integers("true", expected)
    require_integers("ranked", found)
    if not 1 <= k <= found.shape[1]:
        raise MetricError(f"k = {k}, but {found.shape[1]} photos are ranked per query; search deeper or lower k")
    return expected.astype(np.int64), found[:, :k] == expected[:, None]
