"""From neighbours to an answer: which landmark, how sure, or none."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from cairn.retrieval.neighbours import NONE, Neighbours


class AnswerRule(BaseModel):
    """How neighbours become an answer; chosen by `evaluate`, saved as answer.json, obeyed by the server."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    answer: Literal["nearest", "vote"]
    neighbours: int  # how many are searched for
    vote_neighbours: int
    vote_power: float
    threshold: float  # an answer of a lower score is "no landmark"


class Answers(NamedTuple):
    """Best landmark per query, before the threshold: landmark_ids int64 [queries], scores float32 [queries]."""

    landmark_ids: NDArray[np.int64]
    scores: NDArray[np.float32]


def answer(found: Neighbours, rule: AnswerRule) -> Answers:
    """The best landmark of each query and its score, whether or not it reaches the threshold.

    nearest: the first neighbour's landmark and cosine. vote: the landmark with the largest sum of clip(cos, 0)^power
    over the first `vote_neighbours` (GLDv2 recognition 2020, third place: top 5, power 8), scored by that sum; of
    equals the one met first. A query without neighbours gets NONE and -inf.
    """
    if rule.answer == "nearest":
        return Answers(found.landmark_ids[:, 0].copy(), found.scores[:, 0].copy())
    labels = found.landmark_ids[:, : rule.vote_neighbours]
    weights = np.clip(found.scores[:, : rule.vote_neighbours].astype(np.float64), 0, None) ** rule.vote_power
    weights[labels == NONE] = 0
    sums = ((labels[:, :, None] == labels[:, None, :]) * weights[:, None, :]).sum(axis=2)
    best = sums.argmax(axis=1)
    rows = np.arange(len(labels))
    chosen = labels[rows, best]
    scores = np.where(chosen == NONE, -np.inf, sums[rows, best]).astype(np.float32)
    return Answers(chosen.astype(np.int64), scores)
