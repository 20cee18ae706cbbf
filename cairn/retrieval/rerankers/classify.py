"""The classifier answers alone: neighbours are left aside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from cairn.retrieval.rerankers.base import Changes, Classifier, Context, Reranker, StepParams, needed
from cairn.retrieval.result import Result

QUERIES = 1024  # looked at together


class ClassifyParams(StepParams):
    """The likeliest landmark, scored by its probability (the GLDv1 VGG-16 system; the head alone of GLDv2 recognition
    2020, third place). A landmark that only the index knows is never answered.
    """

    name: Literal["classify"] = "classify"

    @property
    def changes(self) -> Changes:
        """Neighbours stay, and have no say in the answers."""
        return "answers"

    @property
    def asks_classifier(self) -> bool:
        """It is all there is."""
        return True


@dataclass(frozen=True)
class Classify:
    """A classifier's answers."""

    classifier: Classifier

    def process(self, result: Result) -> Result:
        """Adds answers; of equally likely landmarks the one with the lowest id."""
        best = np.empty(len(result), dtype=np.int64)
        scores = np.empty(len(result), dtype=np.float32)
        for start in range(0, len(result), QUERIES):
            part = slice(start, start + QUERIES)
            probabilities = self.classifier(result.queries[part])
            best[part], scores[part] = probabilities.argmax(axis=1), probabilities.max(axis=1)
        return result.answered(self.classifier.landmark_ids[best], scores)


def build(params: ClassifyParams, context: Context) -> Reranker:
    """Raises RerankError without a classifier."""
    return Classify(needed(context.classifier, params.name, "a classifier; train.loss = triplet leaves none"))
