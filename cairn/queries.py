"""Asking an index about the queries of a side: the result that is reported, and the baseline beside it."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cairn.evaluation import MAP_DEPTH, Judged, figures, judge, with_threshold
from cairn.params import EvaluateParams
from cairn.retrieval.answer import AnswerRule
from cairn.retrieval.index import PhotoIndex, build_index
from cairn.sides import DATABASE, Sides, image_numbers


def ask(
    sides: Sides,
    vectors: NDArray[np.float32],
    index: PhotoIndex,
    kind: Literal["nearest", "vote"],
    params: EvaluateParams,
) -> tuple[AnswerRule, Judged]:
    """The rule, its threshold chosen on the validation side, and the test queries judged by it.

    vectors: unit vectors float32 [rows of sides, dimensions]
    """
    rule = AnswerRule(
        answer=kind,
        neighbours=params.neighbours,
        vote_neighbours=params.vote_neighbours,
        vote_power=params.vote_power,
        threshold=0.0,
    )
    ids = image_numbers(sides.images)

    def judged(side: str) -> Judged:
        rows = sides.rows(side, distractors=True)
        found = index.search(vectors[rows], max(MAP_DEPTH, rule.neighbours))
        return judge(found, ids[rows], sides.landmark_ids[rows], rule)

    return with_threshold(rule, judged("validation"), params.target_precision), judged("test")


def baseline(sides: Sides, vectors: NDArray[np.float32], params: EvaluateParams) -> dict[str, float | int]:
    """The figures of plain nearest neighbours among `vectors`, those of the untrained network, over the same photos."""
    rows, ids = sides.rows(*DATABASE), image_numbers(sides.images)
    index = PhotoIndex(build_index(vectors[rows], ids[rows], "Flat", None), ids[rows], sides.landmark_ids[rows])
    rule, test = ask(sides, vectors, index, "nearest", params)
    return figures(test, in_index(sides, test), rule.threshold)


def in_index(sides: Sides, test: Judged) -> NDArray[np.int64]:
    """How many index photos show each query's landmark, int64 [queries]."""
    known, sizes = np.unique(sides.landmark_ids[sides.rows(*DATABASE)], return_counts=True)
    at = np.searchsorted(known, test.true).clip(0, len(known) - 1)
    return np.where(known[at] == test.true, sizes[at], 0).astype(np.int64)
