"""Pretrained networks that cleaning asks: one that embeds to find near duplicates, one that names scenes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import nn

from cairn.allocation import keep_memory
from cairn.answering.preprocess import Preprocessing
from cairn.cleaning.scenes import SceneError, outdoor_votes, read_outdoor
from cairn.embedding import embed
from cairn.locations import Location, locations
from cairn.networks.backbones import default_size, make_backbone
from cairn.networks.device import best_device, move
from cairn.networks.embedder import make_embedder, preprocessing_for
from cairn.params import CleanParams
from cairn.progress import progress
from cairn.training.photos import plain_batches

BATCH = 32


def duplicate_embedder(raw: Path, params: CleanParams) -> Callable[[pa.Table], NDArray[np.float32]] | None:
    """A function from rows of the raw manifest to unit vectors; none without a pretrained network."""
    near = params.near_duplicates
    if near.backbone is None or near.weights == "none":
        return None
    network = make_embedder(
        near.backbone, near.weights, "auto", "none", None, None, params.short_side, params.max_megapixels, "centre"
    ).eval()

    def vectors(images: pa.Table) -> NDArray[np.float32]:
        return embed(network, locations(raw, images), BATCH, "embed to find near duplicates")

    return vectors


def scene_voter(raw: Path, params: CleanParams) -> Callable[[pa.Table], NDArray[np.int64]] | None:
    """A function from rows of the raw manifest to outdoor votes; none without scene weights.

    Raises SceneError if weights are given without the list of categories.
    """
    scenes = params.scenes
    if scenes.weights == "none":
        return None
    if scenes.categories is None:
        raise SceneError("clean.scenes.weights is given, so clean.scenes.categories must name Places365's indoor list")
    outdoor = read_outdoor(scenes.categories)
    size = default_size(scenes.backbone)
    network = make_backbone(scenes.backbone, scenes.weights, size, classes=len(outdoor)).eval()
    how = preprocessing_for(scenes.backbone, size, "centre", params.short_side, params.max_megapixels)

    def votes(images: pa.Table) -> NDArray[np.int64]:
        scores = _scores(network, locations(raw, images), how)
        return outdoor_votes(scores, outdoor, scenes.top)

    return votes


@torch.inference_mode()
def _scores(network: nn.Module, places: Sequence[Location], how: Preprocessing) -> NDArray[np.float32]:
    keep_memory()
    move(network, best_device())
    batches = progress(plain_batches(places, how, BATCH), "name scenes", -(-len(places) // BATCH), "batch")
    return torch.cat([network(batch.to(best_device())).cpu() for batch in batches]).numpy()
