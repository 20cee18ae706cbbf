"""The trained head as what re-rankers ask: a classifier that needs no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cairn.losses.base import LossHead
from cairn.retrieval.rerankers.classifier import CosineClassifier


def classifier_of(head: LossHead | None, landmark_ids: NDArray[np.int64]) -> CosineClassifier | None:
    """The classifier over `landmark_ids`, int64 [classes] by class number; none of a head without cosines."""
    found = None if head is None else head.centres()
    if found is None:
        return None
    centres, scale = found
    return CosineClassifier(landmark_ids, centres.cpu().numpy(), scale)
