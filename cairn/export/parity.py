"""Does the exported network say the same? Cosines between embeddings, and agreement of the answers they give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cairn.retrieval.answer import answered
from cairn.retrieval.index import PhotoIndex
from cairn.retrieval.rerankers.chain import Chain

TIE = 0.01  # two answers whose scores are so near, as a share of the larger: which comes first is chance


@dataclass(frozen=True)
class Parity:
    """How close two sets of embeddings of the same photos are."""

    photos: int
    least_cosine: float
    mean_cosine: float
    agreement: float  # share of photos with the same best landmark, or a tie between two


def compare(
    wanted: NDArray[np.float32], found: NDArray[np.float32], index: PhotoIndex, neighbours: int, chain: Chain
) -> Parity:
    """Compare unit vectors [photos, dimensions] row by row, and the answers that both give against the index."""
    cosines = (wanted * found).sum(axis=1)
    first, second = (answered(vectors, index, neighbours, chain).decided for vectors in (wanted, found))
    tied = np.abs(first.scores - second.scores) <= TIE * np.maximum(np.abs(first.scores), np.abs(second.scores))
    agreed = (first.landmark_ids == second.landmark_ids) | tied
    return Parity(len(wanted), float(cosines.min()), float(cosines.mean()), float(agreed.mean()))
