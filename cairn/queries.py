"""Asking an index about the queries of a side: the result that is reported, and the baseline beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cairn.evaluation import MAP_DEPTH, Judged, figures, judge, threshold_of
from cairn.params import Params
from cairn.retrieval.answer import AnswerRule, answered
from cairn.retrieval.calibration import Calibration, fit
from cairn.retrieval.index import PhotoIndex, build_index
from cairn.retrieval.rerankers import Step
from cairn.retrieval.rerankers.base import Classifier, Context
from cairn.retrieval.rerankers.chain import Chain, build_chain, fit_chain
from cairn.retrieval.rerankers.knn_vote import KnnVoteParams
from cairn.retrieval.rerankers.similarity import VectorsById
from cairn.retrieval.result import Result
from cairn.sides import DATABASE, Sides, image_numbers

NEAREST = KnnVoteParams(top=1, power=1.0, clip=False)


@dataclass(frozen=True)
class Asked:
    """How the test queries were answered, and what was found."""

    rule: AnswerRule
    context: Context
    test: Judged


def ask(
    sides: Sides,
    vectors: NDArray[np.float32],
    index: PhotoIndex,
    steps: tuple[Step, ...],
    params: Params,
    classifier: Classifier | None = None,
) -> Asked:
    """Fit what the steps learn, the threshold and the calibration on the validation side; answer the test side.

    vectors: unit vectors float32 [rows of sides, dimensions]
    Raises RerankError if a step needs what there is not.
    """
    ids, depth = image_numbers(sides.images), max(MAP_DEPTH, params.evaluate.neighbours)
    database = sides.rows(*DATABASE)
    others = sides.rows("train", landmarks=False, distractors=True)
    context = Context(
        vectors=VectorsById(ids[database], vectors[database]),
        distractors=vectors[others] if len(others) else None,
        classifier=classifier,
    )

    def found(side: str, chain: Chain) -> tuple[Result, NDArray[np.int64]]:
        rows = sides.rows(side, distractors=True)
        return answered(vectors[rows], index, depth, chain, ids[rows]), sides.landmark_ids[rows]

    validation, true = found("validation", Chain(()))
    context, result = fit_chain(steps, context, validation, true, params.seed, params.threads)
    judged = judge(result, true)
    rule = AnswerRule(
        neighbours=depth,
        steps=steps,
        threshold=threshold_of(judged, params.evaluate.target_precision),
        calibration=calibrated(judged, params),
    )
    return Asked(rule, context, judge(*found("test", build_chain(steps, context))))


def calibrated(validation: Judged, params: Params) -> Calibration | None:
    """The probability that an answer is right, by its score; none without an answer on the validation side."""
    given = np.isfinite(validation.scores)
    if not given.any():
        return None
    return fit(params.evaluate.calibration, validation.scores[given], validation.right[given])


def baseline(sides: Sides, vectors: NDArray[np.float32], params: Params) -> dict[str, float | int]:
    """The figures of plain nearest neighbours among `vectors`, those of the untrained network, over the same photos."""
    rows, ids = sides.rows(*DATABASE), image_numbers(sides.images)
    index = PhotoIndex(build_index(vectors[rows], ids[rows], "Flat", None), ids[rows], sides.landmark_ids[rows])
    asked = ask(sides, vectors, index, (NEAREST,), params)
    return figures(asked.test, in_index(sides, asked.test), asked.rule.threshold)


def in_index(sides: Sides, test: Judged) -> NDArray[np.int64]:
    """How many index photos show each query's landmark, int64 [queries]."""
    known, sizes = np.unique(sides.landmark_ids[sides.rows(*DATABASE)], return_counts=True)
    at = np.searchsorted(known, test.true).clip(0, len(known) - 1)
    return np.where(known[at] == test.true, sizes[at], 0).astype(np.int64)
