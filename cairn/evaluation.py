"""From queries' neighbours to figures: what was answered, whether it was right, and every metric of the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cairn.manifest import NONE, as_image_id
from cairn.metrics.calibration import brier_score, expected_calibration_error
from cairn.metrics.coverage import coverage_at_precision, threshold_for_precision
from cairn.metrics.gap import gap_of
from cairn.metrics.groups import by_landmark, by_size
from cairn.metrics.ranking import mean_average_precision, recall_at_k
from cairn.metrics.recognition import accuracy, micro_f1
from cairn.retrieval.answer import AnswerRule
from cairn.retrieval.neighbours import Neighbours, joined_neighbours
from cairn.retrieval.result import Result

RECALL_AT = (1, 5, 10)
MAP_DEPTH = 100
FEW_FIGURES = ("gap", "accuracy", "recall_at_1", "coverage_at_precision_95")  # what is told of a smaller index


@dataclass(frozen=True)
class Judged:
    """Queries with their answers; a row each.

    image_ids: int64 [queries]
    true: int64 [queries], the landmark shown, NONE for a distractor
    landmark_ids: int64 [queries], the best landmark whatever its score
    scores: float32 [queries]
    found: their neighbours
    """

    image_ids: NDArray[np.int64]
    true: NDArray[np.int64]
    landmark_ids: NDArray[np.int64]
    scores: NDArray[np.float32]
    found: Neighbours

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the best landmark is the one shown; never so for a distractor."""
        said_right: NDArray[np.bool_] = (self.landmark_ids == self.true) & (self.true != NONE)
        return said_right

    @property
    def landmark_queries(self) -> int:
        """How many queries show a landmark."""
        return int((self.true != NONE).sum())

    def only(self, chosen: NDArray[np.bool_]) -> Judged:
        """The chosen queries, bool [queries]."""
        return Judged(
            self.image_ids[chosen],
            self.true[chosen],
            self.landmark_ids[chosen],
            self.scores[chosen],
            self.found.only(chosen),
        )


def joined(parts: Sequence[Judged]) -> Judged:
    """The queries of several, one at least, as one."""
    return Judged(
        np.concatenate([part.image_ids for part in parts]),
        np.concatenate([part.true for part in parts]),
        np.concatenate([part.landmark_ids for part in parts]),
        np.concatenate([part.scores for part in parts]),
        joined_neighbours([part.found for part in parts]),
    )


def judge(result: Result, true: NDArray[np.int64]) -> Judged:
    """A chain's result beside what each query shows, int64 [queries]."""
    best = result.decided
    return Judged(result.query_ids, true, best.landmark_ids, best.scores, result.neighbours)


def threshold_of(validation: Judged, precision: float) -> float:
    """The threshold that answers most at `precision` among validation answers, distractors counted wrong.

    Where none has it, it is the float32 above every validation score; without validation photos of landmarks, or
    answers, the lowest of all, which answers everything.
    """
    if not np.isfinite(validation.scores).any() or validation.landmark_queries == 0:
        return float(np.finfo(np.float32).min)
    chosen = threshold_for_precision(validation.scores, validation.right, validation.landmark_queries, precision)
    return float(np.nextafter(validation.scores.max(), np.float32(np.inf))) if math.isinf(chosen) else chosen


def calibration_figures(probabilities: NDArray[np.float64], right: NDArray[np.bool_]) -> dict[str, float]:
    """How far probabilities [queries] of being right are from what came true; a distractor's answer is never right."""
    return {
        "expected_calibration_error": expected_calibration_error(probabilities, right),
        "brier_score": brier_score(probabilities, right),
    }


def figures(test: Judged, relevant: NDArray[np.int64], threshold: float) -> dict[str, float | int]:
    """Every figure of one set of queries; `relevant`, int64 [queries], counts index photos of each query's landmark."""
    answered = np.where(test.scores >= threshold, test.landmark_ids, NONE)
    given = answered != NONE
    landmarks = test.landmark_queries
    return {
        "gap": gap_of(test.scores, test.right, landmarks, test.image_ids),
        "accuracy": accuracy(test.true, test.landmark_ids),
        "micro_f1": micro_f1(test.true, answered),
        **{f"recall_at_{k}": recall_at_k(test.true, test.found.landmark_ids, k) for k in RECALL_AT},
        f"map_at_{MAP_DEPTH}": mean_average_precision(test.true, test.found.landmark_ids, relevant, MAP_DEPTH),
        "coverage_at_precision_95": coverage_at_precision(test.scores, test.right, landmarks, 0.95),
        "precision_at_threshold": float(test.right[given].mean()) if given.any() else 1.0,
        "coverage_at_threshold": float(test.right[given].sum() / landmarks),
        "queries": landmarks,
        "distractors": len(test.true) - landmarks,
    }


def report(test: Judged, relevant: NDArray[np.int64], rule: AnswerRule, names: Mapping[int, str]) -> dict[str, Any]:
    """The figures with distractors, without them, per landmark and by class size (`relevant`, as in `figures`).

    Raises MetricError if no query shows a landmark.
    """
    shown = test.true != NONE
    each = by_landmark(test.true, test.landmark_ids)
    rows = zip(each.landmark_ids.tolist(), each.queries.tolist(), each.accuracy.tolist(), strict=True)
    return {
        **figures(test, relevant, rule.threshold),
        "threshold": rule.threshold,
        "without_distractors": figures(test.only(shown), relevant[shown], rule.threshold),
        "by_class_size": [
            {"images": item.name, "queries": item.queries, "accuracy": item.accuracy}
            for item in by_size(test.true, test.landmark_ids, relevant)
        ],
        "by_landmark": [
            {"landmark_id": landmark, "name": names.get(landmark, ""), "queries": queries, "accuracy": share}
            for landmark, queries, share in rows
        ],
    }


def predictions(test: Judged, threshold: float, probabilities: NDArray[np.float64] | None) -> pa.Table:
    """What was said of each query, sorted by image id; `probabilities` [queries] are of the answers being right."""
    columns = {
        "image_id": [as_image_id(i) for i in test.image_ids.tolist()],
        "true_landmark_id": test.true,
        "landmark_id": test.landmark_ids,
        "score": test.scores,
        "probability": pa.nulls(len(test.scores), pa.float64()) if probabilities is None else probabilities,
        "answered": test.scores >= threshold,
        "nearest": [as_image_id(i) for i in test.found.image_ids[:, 0].tolist()],
    }
    return pa.table(columns).sort_by("image_id")


def order_for_people(test: Judged) -> dict[str, NDArray[np.int64]]:
    """Rows worth looking at: surest right, least sure right, surest wrong (distractors among them), best first."""
    by_score = np.argsort(-test.scores, kind="stable")
    right = by_score[test.right[by_score]]
    return {
        "surest_right": right,
        "least_sure_right": right[::-1],
        "surest_wrong": by_score[~test.right[by_score]],
    }
