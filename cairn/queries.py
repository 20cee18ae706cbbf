"""Asking an index about the queries of a side: the result that is reported, and the baseline beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cairn.evaluation import FEW_FIGURES, Judged, calibration_figures, figures, joined, judge, threshold_of
from cairn.manifest import NONE
from cairn.params import Params
from cairn.progress import progress
from cairn.ranks import earlier_alike
from cairn.retrieval.answer import AnswerRule, answered
from cairn.retrieval.building import build
from cairn.retrieval.calibration import Calibration, better, fit
from cairn.retrieval.index import PhotoIndex, choose_type, lists_of
from cairn.retrieval.rerankers import Step
from cairn.retrieval.rerankers.base import Context
from cairn.retrieval.rerankers.chain import Chain, build_chain, fit_chain, learns
from cairn.retrieval.rerankers.classifier import CosineClassifier
from cairn.retrieval.rerankers.knn_vote import KnnVoteParams
from cairn.retrieval.rerankers.prototypes import prototypes_of
from cairn.retrieval.rerankers.similarity import VectorsById
from cairn.retrieval.result import Result, joined_results
from cairn.retrieval.tuning import held_photos, tune
from cairn.retrieval.vectors import UnitVectors
from cairn.sides import DATABASE, Sides, image_numbers, trained_landmarks

QUERIES = 4096  # asked at a time; a multiple of what re-rankers take, so that none sees other queries beside its own
EXACT_UP_TO = 100_000  # photos of a gallery made here
NEAREST = KnnVoteParams(top=1, power=1.0, clip=False)


@dataclass(frozen=True)
class Embedded:
    """The photos of all sides, and the unit vector of each, float32 [rows of sides, dimensions]."""

    sides: Sides
    vectors: UnitVectors


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

    @property
    def probabilities(self) -> NDArray[np.float64] | None:
        """Of each test query that its answer is right, float64 [queries]; None where nothing is calibrated."""
        calibration = self.rule.calibration
        return None if calibration is None else calibration.probability(self.test.scores)


def ask(photos: Embedded, gallery: Gallery, steps: tuple[Step, ...], params: Params, given: Context) -> Asked:
    """Fit what the steps learn, the threshold and the calibration on the validation side; answer the test side.

    given: the context as far as it does not depend on the gallery: the classifier, readers of photos
    Raises RerankError if a step needs what there is not.
    """
    sides, depth = photos.sides, params.evaluate.neighbours
    ids = image_numbers(sides.images)
    context = completed(given, photos, ids, gallery.rows, steps)

    def found(side: str, chain: Chain) -> Iterator[tuple[Result, NDArray[np.int64]]]:
        """Some queries at a time, with what they show."""
        rows = sides.rows(side, distractors=True)
        starts: Iterable[int] = range(0, max(1, len(rows)), QUERIES)
        if len(rows) > QUERIES:
            starts = progress(starts, f"ask ({side})", unit="part")
        for some in (rows[start : start + QUERIES] for start in starts):
            yield answered(photos.vectors[some], gallery.index, depth, chain, ids[some]), sides.landmark_ids[some]

    def judged_side(side: str, chain: Chain) -> Judged:
        return joined([judge(result, true) for result, true in found(side, chain)])

    if learns(steps):  # from all validation queries at once; every other step takes each query by itself
        results, shown = zip(*found("validation", Chain(())), strict=True)
        true = np.concatenate(shown)
        context, result = fit_chain(steps, context, joined_results(results), true, params.seed, params.threads)
        judged = judge(result, true)
    else:
        judged = judged_side("validation", build_chain(steps, context))
    rule = AnswerRule(
        neighbours=depth,
        steps=steps,
        threshold=threshold_of(judged, params.evaluate.target_precision),
        calibration=calibrated(judged, params),
    )
    return Asked(rule, context, judged, judged_side("test", build_chain(steps, context)))


def asked_as_served(photos: Embedded, gallery: Gallery, asked: Asked, params: Params, given: Context) -> Asked:
    """Asked again without the steps that the server cannot run; what was `asked`, if there are none.

    Raises RerankError if a step that is left needs what there is not.
    """
    steps = tuple(step for step in asked.rule.steps if step.served)
    return asked if steps == asked.rule.steps else ask(photos, gallery, steps, params, given)


def completed(
    given: Context, photos: Embedded, ids: NDArray[np.int64], rows: NDArray[np.int64], steps: Sequence[Step]
) -> Context:
    """The context with what the steps ask for: the train distractors, a way to look up the vectors of the gallery's
    `rows` by image id, and their landmarks' prototypes. ids: int64 [rows of sides]
    """
    sides, vectors = photos.sides, photos.vectors
    trained = given.classifier if isinstance(given.classifier, CosineClassifier) else None
    by_id, distractors, prototypes = None, None, None
    if any(step.looks_up_vectors for step in steps):
        by_id = VectorsById(ids[rows], vectors, rows)
    if any(step.asks_distractors for step in steps):
        distractors = vectors[sides.rows("train", landmarks=False, distractors=True)]
    if any(step.asks_prototypes for step in steps):
        prototypes = prototypes_of(vectors, sides.landmark_ids[rows], trained, rows)
    return replace(given, vectors=by_id, distractors=distractors, prototypes=prototypes)


def calibrated(validation: Judged, params: Params) -> Calibration | None:
    """The probability that an answer is right, by its score; none without an answer to a landmark photo of the
    validation side, since distractors alone say of every answer that it is wrong.
    """
    given = np.isfinite(validation.scores)
    if not (given & (validation.true != NONE)).any():
        return None
    scores, right, kind = validation.scores[given], validation.right[given], params.evaluate.calibration
    return fit(better(scores, right) if kind == "auto" else kind, scores, right)


@contextmanager
def gallery_of(photos: Embedded, rows: NDArray[np.int64], params: Params, keep: Path) -> Iterator[Gallery]:
    """A gallery of these rows: searched exactly up to EXACT_UP_TO photos, and over that as `index.type: auto` would.

    What a large one is made of lies in a folder in `keep` for the while.
    """
    sides = photos.sides
    ids = image_numbers(sides.images)[rows]
    factory = "Flat" if len(rows) <= EXACT_UP_TO else choose_type(len(rows), photos.vectors.shape[1])
    keep.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=keep) as folder:
        index = build(photos.vectors, rows, ids, factory, params.seed, Path(folder))
        if lists_of(index) is not None:
            held = held_photos(photos.vectors, rows, ids, params.seed)
            tune(index, held, params.index.recall, params.index.nprobe)
        yield Gallery(PhotoIndex(index, ids, sides.landmark_ids[rows]), rows)


def baseline(photos: Embedded, params: Params, keep: Path) -> dict[str, Any]:
    """The figures of plain nearest neighbours over the same photos, their vectors being the untrained network's.

    keep: as in `gallery_of`
    """
    sides = photos.sides
    with gallery_of(photos, sides.rows(*DATABASE), params, keep) as gallery:
        asked = ask(photos, gallery, (NEAREST,), params, Context())
    return {
        **figures(asked.test, in_gallery(sides, gallery.rows, asked.test), asked.rule.threshold),
        **by_training(sides, asked.test),
        "at_most": at_most(photos, (NEAREST,), params, Context(), keep),
    }


def at_most(
    photos: Embedded, steps: tuple[Step, ...], params: Params, given: Context, keep: Path
) -> dict[str, dict[str, float]]:
    """Figures with at most so many index photos a landmark, by that number: means over params.evaluate.draws draws.

    Which photos stay is drawn anew each time; all that is fitted is fitted again. keep: as in `gallery_of`
    """
    sides, wanted = photos.sides, params.evaluate.at_most
    draws = [(most, draw) for most in wanted for draw in range(params.evaluate.draws)]
    found: dict[int, list[dict[str, float]]] = {most: [] for most in wanted}
    for most, draw in progress(draws, "fewer index photos", unit="draw"):
        with gallery_of(photos, drawn(sides, most, (params.seed, most, draw)), params, keep) as gallery:
            asked = ask(photos, gallery, steps, params, given)
        every = figures(asked.test, in_gallery(sides, gallery.rows, asked.test), asked.rule.threshold)
        found[most].append({**{name: float(every[name]) for name in FEW_FIGURES}, **by_training(sides, asked.test)})
    return {str(most): {name: fmean(one[name] for one in of) for name in of[0]} for most, of in found.items()}


def drawn(sides: Sides, photos: int, seed: tuple[int, ...]) -> NDArray[np.int64]:
    """At most `photos` rows of each landmark's index photos, drawn by `seed`, rising."""
    rows = np.random.default_rng(seed).permutation(sides.rows(*DATABASE))
    return np.sort(rows[earlier_alike(sides.landmark_ids[rows]) < photos])


def validation_figures(sides: Sides, gallery: Gallery, asked: Asked) -> dict[str, float | int]:
    """What parts are chosen by; empty if no query of the validation side shows a landmark.

    A re-ranker that learns has answered these queries out of fold.
    """
    judged = asked.validation
    if judged.landmark_queries == 0:
        return {}
    return figures(judged, in_gallery(sides, gallery.rows, judged), asked.rule.threshold)


def calibration_report(asked: Asked) -> dict[str, Any]:
    """What the probabilities of the test answers are worth, and of which kind they are; empty if there are none."""
    calibration, probabilities = asked.rule.calibration, asked.probabilities
    if calibration is None or probabilities is None:
        return {}
    return {"calibration": {"kind": calibration.kind, **calibration_figures(probabilities, asked.test.right)}}


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
