"""Neighbours vote for their landmarks, by powers of their scores; prototypes and the classifier may have their say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from cairn.manifest import NONE
from cairn.retrieval.rerankers.base import Changes, Classifier, Context, Reranker, StepParams, needed
from cairn.retrieval.rerankers.prototypes import Prototypes
from cairn.retrieval.result import Result

QUERIES = 256  # looked at together


class KnnVoteParams(StepParams):
    """The landmark with the largest sum of clip(score, 0)^power over the first `top` neighbours wins.

    With `prototype_weight` w > 0 each landmark among all neighbours, not the first `top` alone, gets w times the power
    of its prototype's likeness on top (`cairn.retrieval.rerankers.prototypes`). Where a landmark has few photos, or
    they look away from what the query shows, its prototype still stands for it.

    With `head_power` h > 0 each landmark's sum is multiplied by p^h, p being the classifier's probability of it (GLDv2
    recognition 2020, third place: top 5, power 8, h 12). top 1 with power 1 is the nearest neighbour.

    A landmark that only the index knows has no p. A factor of 1 would let it beat every landmark that the classifier
    knows, 0 would never let it be answered; it gets `unknown_probability`: about what the classifier gives a right
    answer, to be chosen on the validation side. It then wins where the classifier is sure of none of its rivals.
    """

    name: Literal["knn_vote"] = "knn_vote"
    top: Annotated[int, Field(ge=1, le=100)] = 5
    power: Annotated[float, Field(gt=0, le=64)] = 8.0
    clip: bool = True  # off: scores under 0 count against their landmark, as in a sum of penalised scores; power 1 only
    prototype_weight: Annotated[float, Field(ge=0, le=1000)] = 0.0  # 0: no prototypes
    prototype_within: Annotated[float, Field(gt=0, le=1)] = 0.6  # mean cosine of photos of a landmark not trained on
    head_power: Annotated[float, Field(ge=0, le=64)] = 0.0  # 0: no classifier
    unknown_probability: Annotated[float, Field(gt=0, le=1)] = 0.5

    @property
    def depth(self) -> int:
        """The first ones."""
        return self.top

    @property
    def changes(self) -> Changes:
        """Neighbours become answers."""
        return "answers"

    @property
    def asks_classifier(self) -> bool:
        """If it has a say."""
        return self.head_power > 0

    @property
    def asks_prototypes(self) -> bool:
        """If they have a say."""
        return self.prototype_weight > 0

    @model_validator(mode="after")
    def _signed_only_alone(self) -> KnnVoteParams:
        if not self.clip and (self.power != 1 or self.head_power > 0 or self.prototype_weight > 0):
            raise ValueError(
                "clip: false needs power 1, head_power 0 and prototype_weight 0; a negative score has no other power"
            )
        return self


@dataclass(frozen=True)
class KnnVote:
    """A vote with its classifier and prototypes, if it has them."""

    params: KnnVoteParams
    classifier: Classifier | None
    prototypes: Prototypes | None

    def process(self, result: Result) -> Result:
        """Adds answers; of equal landmarks the one met first.

        The score is the sum S without a classifier, and (S p^h)^(1 / (1 + h)) with one: the published product's order,
        in numbers that float32 and a threshold of six places can hold (p^12 of a weak answer is under 1e-12).
        """
        candidates = self.params.top if self.prototypes is None else result.neighbours.scores.shape[1]
        labels = result.neighbours.landmark_ids[:, :candidates]
        best = np.empty(len(result), dtype=np.int64)
        scores = np.empty(len(result))
        for start in range(0, len(result), QUERIES):
            part = slice(start, start + QUERIES)
            sums = self._scores(labels[part], result.neighbours.scores[part, :candidates], result.queries[part])
            best[part], scores[part] = sums.argmax(axis=1), sums.max(axis=1)
        return result.answered(np.take_along_axis(labels, best[:, None], 1)[:, 0], scores)

    def _scores(
        self, labels: NDArray[np.int64], scores: NDArray[np.float32], queries: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """The score of each candidate, a neighbour's landmark, [queries, candidates]; -inf where there is none."""
        sums = vote_sums(labels, scores, self.params.power, self.params.clip, self.params.top)
        if self.prototypes is not None:
            likeness = self.prototypes.likeness(queries, labels, self.params.prototype_within).astype(np.float64)
            sums = sums + self.params.prototype_weight * np.clip(likeness, 0, None) ** self.params.power
        if self.classifier is not None:
            h = self.params.head_power
            sums = sums ** (1 / (1 + h)) * self._probabilities(self.classifier, labels, queries) ** (h / (1 + h))
        return np.where(labels == NONE, -np.inf, sums)

    def _probabilities(
        self, classifier: Classifier, labels: NDArray[np.int64], queries: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """The classifier's probability of each label [queries, candidates]."""
        known = classifier.landmark_ids
        at = np.searchsorted(known, labels).clip(0, len(known) - 1)
        probabilities = np.take_along_axis(classifier(queries), at, 1).astype(np.float64)
        return np.where(known[at] == labels, probabilities, self.params.unknown_probability)


def vote_sums(
    labels: NDArray[np.int64], scores: NDArray[np.float32], power: float, clip: bool, top: int | None = None
) -> NDArray[np.float64]:
    """For each neighbour the sum of clip(score, 0)^power over neighbours of its landmark, both [queries, n].

    Only the first `top` vote, where it is given. Without `clip`, the sum of scores as they are. Where there is no
    neighbour the sum is 0.
    """
    voters = labels[:, :top]
    weights = np.where(voters == NONE, 0, scores[:, :top].astype(np.float64))
    if clip:
        weights = np.clip(weights, 0, None) ** power
    return np.asarray(((labels[:, :, None] == voters[:, None, :]) * weights[:, None, :]).sum(axis=2))


def build(params: KnnVoteParams, context: Context) -> Reranker:
    """Raises RerankError if a weight asks for a classifier or prototypes and there are none."""
    classifier, prototypes = None, None
    if params.asks_classifier:
        classifier = needed(context.classifier, "knn_vote with head_power", "a classifier")
    if params.asks_prototypes:
        prototypes = needed(context.prototypes, "knn_vote with prototype_weight", "prototypes")
    return KnnVote(params, classifier, prototypes)
