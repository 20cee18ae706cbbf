"""Asking an index about the queries of a side: the result that is reported, and the baseline beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cairn.evaluation import FEW_FIGURES, MAP_DEPTH, Judged, figures, judge, threshold_of
from cairn.params import Params
from cairn.progress import progress
from cairn.retrieval.answer import AnswerRule, answered
from cairn.retrieval.calibration import Calibration, better, fit
from cairn.retrieval.index import PhotoIndex, build_index
from cairn.retrieval.neighbours import NONE
from cairn.retrieval.rerankers import Step
from cairn.retrieval.rerankers.base import Context
from cairn.retrieval.rerankers.chain import Chain, build_chain, fit_chain
from cairn.retrieval.rerankers.classifier import CosineClassifier
from cairn.retrieval.rerankers.knn_vote import KnnVoteParams
from cairn.retrieval.rerankers.prototypes import prototypes_of
from cairn.retrieval.rerankers.similarity import VectorsById
from cairn.retrieval.result import Result
from cairn.sides import DATABASE, Sides, image_numbers, trained_landmarks

NEAREST = KnnVoteParams(top=1, power=1.0, clip=False)


@dataclass(frozen=True)
class Embedded:
    """The photos of all sides, and the unit vector of each, float32 [rows of sides, dimensions]."""

    sides: Sides
    vectors: NDArray[np.float32]


@dataclass(frozen=True)
class Gallery:
    """Photos that queries are compared with: an index and the rows of the sides that it holds, int64 [photos]."""

    index: PhotoIndex
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class Asked:
    """How the test queries were answered, and what was found; beside them the validation queries, same rule."""

    rule: AnswerRule
    context: Context
    validation: Judged
    test: Judged


def ask(photos: Embedded, gallery: Gallery, steps: tuple[Step, ...], params: Params, given: Context) -> Asked:
    """Fit what the steps learn, the threshold and the calibration on the validation side; answer the test side.

    given: the context as far as it does not depend on the gallery: the classifier, readers of photos
    Raises RerankError if a step needs what there is not.
    """
    sides, vectors = photos.sides, photos.vectors
    ids, depth = image_numbers(sides.images), max(MAP_DEPTH, params.evaluate.neighbours)
    context = completed(given, photos, gallery.rows)

    def found(side: str, chain: Chain) -> tuple[Result, NDArray[np.int64]]:
        rows = sides.rows(side, distractors=True)
        return answered(vectors[rows], gallery.index, depth, chain, ids[rows]), sides.landmark_ids[rows]

    validation, true = found("validation", Chain(()))
    context, result = fit_chain(steps, context, validation, true, params.seed, params.threads)
    judged = judge(result, true)
    rule = AnswerRule(
        neighbours=depth,
        steps=steps,
        threshold=threshold_of(judged, params.evaluate.target_precision),
        calibration=calibrated(judged, params),
    )
    return Asked(rule, context, judged, judge(*found("test", build_chain(steps, context))))


def completed(given: Context, photos: Embedded, rows: NDArray[np.int64]) -> Context:
    """The context with the vectors of the gallery's `rows`, its landmarks' prototypes and the train distractors."""
    sides, vectors = photos.sides, photos.vectors
    others = sides.rows("train", landmarks=False, distractors=True)
    trained = given.classifier if isinstance(given.classifier, CosineClassifier) else None
    return replace(
        given,
        vectors=VectorsById(image_numbers(sides.images)[rows], vectors[rows]),
        distractors=vectors[others] if len(others) else None,
        prototypes=prototypes_of(vectors[rows], sides.landmark_ids[rows], trained),
    )


def calibrated(validation: Judged, params: Params) -> Calibration | None:
    """The probability that an answer is right, by its score; none without an answer on the validation side."""
    given = np.isfinite(validation.scores)
    if not given.any():
        return None
    scores, right, kind = validation.scores[given], validation.right[given], params.evaluate.calibration
    return fit(better(scores, right) if kind == "auto" else kind, scores, right)


def flat(photos: Embedded, rows: NDArray[np.int64]) -> Gallery:
    """A gallery of these rows, searched exactly."""
    sides, vectors = photos.sides, photos.vectors
    ids = image_numbers(sides.images)[rows]
    return Gallery(PhotoIndex(build_index(vectors[rows], ids, "Flat", None), ids, sides.landmark_ids[rows]), rows)


def baseline(photos: Embedded, params: Params) -> dict[str, Any]:
    """The figures of plain nearest neighbours over the same photos, their vectors being the untrained network's."""
    sides = photos.sides
    gallery = flat(photos, sides.rows(*DATABASE))
    asked = ask(photos, gallery, (NEAREST,), params, Context())
    return {
        **figures(asked.test, in_gallery(sides, gallery.rows, asked.test), asked.rule.threshold),
        **by_training(sides, asked.test),
        "at_most": at_most(photos, (NEAREST,), params, Context()),
    }


def at_most(photos: Embedded, steps: tuple[Step, ...], params: Params, given: Context) -> dict[str, dict[str, float]]:
    """Figures with at most so many index photos a landmark, by that number: means over params.evaluate.draws draws.

    Which photos stay is drawn anew each time; all that is fitted is fitted again.
    """
    sides, wanted = photos.sides, params.evaluate.at_most
    draws = [(most, draw) for most in wanted for draw in range(params.evaluate.draws)]
    found: dict[int, list[dict[str, float]]] = {most: [] for most in wanted}
    for most, draw in progress(draws, "fewer index photos", unit="draw"):
        gallery = flat(photos, drawn(sides, most, (params.seed, most, draw)))
        asked = ask(photos, gallery, steps, params, given)
        every = figures(asked.test, in_gallery(sides, gallery.rows, asked.test), asked.rule.threshold)
        found[most].append({**{name: float(every[name]) for name in FEW_FIGURES}, **by_training(sides, asked.test)})
    return {str(most): {name: fmean(one[name] for one in of) for name in of[0]} for most, of in found.items()}


def drawn(sides: Sides, photos: int, seed: tuple[int, ...]) -> NDArray[np.int64]:
    """At most `photos` rows of each landmark's index photos, drawn by `seed`, rising."""
    rows = np.random.default_rng(seed).permutation(sides.rows(*DATABASE))
    landmarks = sides.landmark_ids[rows]
    order = np.argsort(landmarks, kind="stable")
    _, first, place = np.unique(landmarks[order], return_index=True, return_inverse=True)
    taken = np.arange(len(rows)) - first[place] < photos
    return np.sort(rows[order][taken])


def by_training(sides: Sides, test: Judged) -> dict[str, float]:
    """Accuracy on queries of landmarks that were trained on, and of those that only the index knows, where both are."""
    seen = np.isin(test.true, trained_landmarks(sides))
    unseen = ~seen & (test.true != NONE)
    if not (seen.any() and unseen.any()):
        return {}
    return {
        "accuracy_of_trained_landmarks": float(test.right[seen].mean()),
        "accuracy_of_unseen_landmarks": float(test.right[unseen].mean()),
    }


def in_gallery(sides: Sides, rows: NDArray[np.int64], test: Judged) -> NDArray[np.int64]:
    """How many of the gallery's photos show each query's landmark, int64 [queries]."""
    known, sizes = np.unique(sides.landmark_ids[rows], return_counts=True)
    at = np.searchsorted(known, test.true).clip(0, len(known) - 1)
    return np.where(known[at] == test.true, sizes[at], 0).astype(np.int64)
