"""A learned re-ranker: gradient-boosted trees say how likely each candidate landmark is right. Fitted on validation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cairn.manifest import NONE
from cairn.retrieval.rerankers.base import (
    Changes,
    Context,
    Reranker,
    RerankError,
    StepParams,
    needed,
    needed_distractors,
)
from cairn.retrieval.rerankers.knn_vote import QUERIES, vote_sums
from cairn.retrieval.rerankers.similarity import mean_of_nearest
from cairn.retrieval.result import Result

# Each feature, and how a landmark's probability may go with it: only up, only down, either way. A validation side is
# small, and trees left free fit its noise.
RISES = {"sum": 1, "max": 1, "first_rank": -1, "count": 1, "distractors": 0, "margin": 1}
FEATURES = tuple(RISES)


class BoostedParams(StepParams):
    """LightGBM (Ke et al. 2017) over what a query's neighbours say of each landmark, after GLDv2 2020's second place,
    which also gave it counts of local inliers: after `local_features` the scores have these in them.
    """

    name: Literal["boosted"] = "boosted"
    top: Annotated[int, Field(ge=1, le=100)] = 10  # neighbours whose landmarks are candidates
    distractors: Annotated[int, Field(ge=1, le=1000)] = 10  # in the mean cosine to the nearest ones
    rounds: Annotated[int, Field(ge=1, le=5000)] = 100
    leaves: Annotated[int, Field(ge=2, le=255)] = 8
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.03
    min_leaf: Annotated[int, Field(ge=1, le=10_000)] = 20  # candidates in a leaf; of few, at most a tenth
    folds: Annotated[int, Field(ge=2, le=50)] = 5  # of the validation side, when its own answers are needed

    @property
    def asks_distractors(self) -> bool:
        """Yes."""
        return True

    @property
    def depth(self) -> int:
        """The first ones."""
        return self.top

    @property
    def changes(self) -> Changes:
        """Neighbours become answers."""
        return "answers"


class Candidates(NamedTuple):
    """A row per query and landmark among its first neighbours, by query, then by the landmark's first place.

    queries: int64 [rows], the query's row in the result
    landmark_ids: int64 [rows]
    features: float64 [rows, 6], as FEATURES names them: sum and largest of the landmark's scores, place of its first
        neighbour (from 0), how many it has, the query's mean cosine to the nearest distractors, and its sum less the
        best other landmark's (less 0 without another)
    """

    queries: NDArray[np.int64]
    landmark_ids: NDArray[np.int64]
    features: NDArray[np.float64]


@dataclass(frozen=True)
class Boosted:
    """Trees, as a function of features [rows, 6] to probabilities [rows]."""

    params: BoostedParams
    distractors: NDArray[np.float32]
    probabilities: Callable[[NDArray[np.float64]], NDArray[np.float64]]

    def process(self, result: Result) -> Result:
        """Adds answers: the likeliest candidate, of equal ones the one met first, scored by its probability."""
        found = candidates(result, self.params, self.distractors)
        return _likeliest(result, found, self.probabilities(found.features))


def candidates(result: Result, params: BoostedParams, distractors: NDArray[np.float32]) -> Candidates:
    """What the trees look at; `distractors` are unit vectors float32 [n, dimensions] of the train side."""
    near = mean_of_nearest(result.queries, distractors, params.distractors).astype(np.float64)
    parts = [
        _part(result, start, near[start : start + QUERIES], params.top)
        for start in range(0, max(1, len(result)), QUERIES)
    ]
    return Candidates(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _part(result: Result, start: int, near: NDArray[np.float64], top: int) -> Candidates:
    """The candidates of the queries from `start` on, as many as `near`, float64 [queries], has."""
    labels = result.neighbours.landmark_ids[start : start + len(near), :top]
    scores = result.neighbours.scores[start : start + len(near), :top]
    same = labels[:, :, None] == labels[:, None, :]
    first = (same.argmax(axis=2) == np.arange(labels.shape[1])) & (labels != NONE)
    sums = vote_sums(labels, scores, 1, clip=False)
    rivals = np.where(first[:, None, :] & ~same, sums[:, None, :], -np.inf).max(axis=2)
    margins = sums - np.where(np.isneginf(rivals), 0, rivals)
    rows, places = np.nonzero(first)
    columns = (sums[first], scores[first], places, same.sum(axis=2)[first], near[rows], margins[first])
    return Candidates(rows + start, labels[first], np.stack(columns, axis=1).astype(np.float64))


def _likeliest(result: Result, found: Candidates, probabilities: NDArray[np.float64]) -> Result:
    """The result answered with each query's candidate of the highest probability [rows]."""
    labels, scores = np.full(len(result), NONE, dtype=np.int64), np.full(len(result), -np.inf)
    best_last = np.lexsort((-np.arange(len(probabilities)), probabilities))
    labels[found.queries[best_last]] = found.landmark_ids[best_last]
    np.maximum.at(scores, found.queries, probabilities)
    return result.answered(labels, scores)


def fit(
    result: Result, true: NDArray[np.int64], params: BoostedParams, context: Context, seed: int, threads: int
) -> str:
    """Trees fitted on validation queries, `true` int64 [queries] being what each shows (NONE: nothing); as text.

    The same input, seed and threads give the same text. Raises RerankError without distractors, or if no candidate is
    right or none is wrong.
    """
    found = candidates(result, params, needed_distractors(context, params.name))
    return _fit(found, _right(found, true), params, seed, threads)


def out_of_fold(
    result: Result, true: NDArray[np.int64], params: BoostedParams, context: Context, seed: int, threads: int
) -> Result:
    """Validation answers from trees that were fitted without the landmark in question; arguments as in `fit`.

    A threshold chosen on the answers that the trees were fitted to would be too low. Queries of one landmark share a
    fold, distractors are dealt out one by one. Raises RerankError as `fit` does, for any fold.
    """
    found = candidates(result, params, needed_distractors(context, params.name))
    right, folds = _right(found, true), folds_of(true, params.folds)[found.queries]
    probabilities = np.empty(len(folds))
    for fold in np.unique(folds):
        kept = folds != fold
        rest = Candidates(*(column[kept] for column in found))
        trees = load(_fit(rest, right[kept], params, seed, threads))
        probabilities[~kept] = trees(found.features[~kept])
    return _likeliest(result, found, probabilities)


def folds_of(true: NDArray[np.int64], folds: int) -> NDArray[np.int64]:
    """A fold for each query, int64 [queries]: landmarks in turn by id, distractors in turn by place."""
    _, ranks = np.unique(true, return_inverse=True)
    shown = true != NONE
    return np.where(shown, ranks.reshape(-1), np.cumsum(~shown)) % folds


def _right(found: Candidates, true: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.asarray(found.landmark_ids == true[found.queries])


def _fit(found: Candidates, right: NDArray[np.bool_], params: BoostedParams, seed: int, threads: int) -> str:
    if right.all() or not right.any():
        raise RerankError(
            f"boosted needs right and wrong candidates on the validation side: {right.sum()} of {len(right)} are right"
        )
    import lightgbm  # takes a second, and only a chain with this step needs it

    options: dict[str, Any] = {
        "objective": "binary",
        "num_leaves": params.leaves,
        "learning_rate": params.learning_rate,
        "min_data_in_leaf": min(params.min_leaf, max(1, len(right) // 10)),
        "seed": seed,
        "num_threads": threads,
        "deterministic": True,
        "force_row_wise": True,
        "monotone_constraints": list(RISES.values()),
        "verbosity": -1,
    }
    data = lightgbm.Dataset(found.features, right.astype(np.float64), feature_name=list(FEATURES))
    return str(lightgbm.train(options, data, params.rounds).model_to_string())


def load(model: str) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """LightGBM's text as a function of features [rows, 6] to probabilities [rows]; text is data, nothing in it runs.

    Raises RerankError if it is no such model, or one over other features.
    """
    import lightgbm

    try:
        trees = lightgbm.Booster(model_str=model)
    except lightgbm.basic.LightGBMError as error:
        raise RerankError(f"boosted: this is no LightGBM model: {error}") from error
    if tuple(trees.feature_name()) != FEATURES:
        raise RerankError(f"boosted: a model over {trees.feature_name()}, not {list(FEATURES)}; fit it again")

    def probabilities(features: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(trees.predict(features, num_threads=1)) if len(features) else np.empty(0)

    return probabilities


def build(params: BoostedParams, context: Context) -> Reranker:
    """Raises RerankError without distractors or a fitted model."""
    model = needed(context.boosted_model, params.name, "a model fitted on the validation side")
    return Boosted(params, needed_distractors(context, params.name), load(model))
