"""The trained head as what re-rankers ask: a classifier that needs no torch."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from cairn.locations import Photos
from cairn.networks.embedder import Embedder
from cairn.retrieval.rerankers.classifier import CosineClassifier, LinearClassifier, SavedClassifier
from cairn.training.loop import Trained
from cairn.training.photos import plain_batches

LENGTH_PHOTOS = 512  # enough for a mean


def classifier_of(trained: Trained, side: Photos, landmark_ids: NDArray[np.int64]) -> SavedClassifier | None:
    """The classifier over `landmark_ids`, int64 [classes] by class number; none of a head that is neither cosines nor
    linear. `side` is the train side, from which a linear one learns how long features are.
    """
    if trained.head is None:
        return None
    cosine, linear = trained.head.centres(), trained.head.linear_parts()
    if cosine is not None:
        centres, scale = cosine
        return CosineClassifier(landmark_ids, centres.cpu().numpy(), scale)
    if linear is not None:
        weights, biases = (part.cpu().numpy() for part in linear)
        return LinearClassifier(landmark_ids, weights, biases, mean_length(trained.embedder, side))
    return None


@torch.inference_mode()
def mean_length(embedder: Embedder, side: Photos) -> float:
    """The mean length of features before they are made unit vectors, over up to LENGTH_PHOTOS photos of `side`."""
    chosen = np.linspace(0, len(side.locations) - 1, min(LENGTH_PHOTOS, len(side.locations))).astype(int)
    loader = plain_batches([side.locations[i] for i in chosen], embedder.config.preprocessing, 32)
    device = next(embedder.parameters()).device
    lengths = [embedder.features(batch.to(device)).float().norm(dim=1).cpu() for batch in loader]
    return float(torch.cat(lengths).double().mean())
