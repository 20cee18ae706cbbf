"""The plain way that every result is compared with: the backbone as it comes, pooled, no neck and no training."""

from __future__ import annotations

import torch

from cairn.networks.embedder import Embedder, make_embedder
from cairn.networks.params import NeckName
from cairn.params import Params


def untrained(params: Params) -> Embedder:
    """The network of train.backbone, train.weights and train.joined without a neck, in eval mode."""
    torch.manual_seed(params.seed)
    return new_embedder(params, neck="none").eval()


def new_embedder(params: Params, neck: NeckName, classes: int | None = None) -> Embedder:
    """An embedder as the params say, before any training, with the neck named.

    Only where the number of `classes` is given, for training, the attention branch of the params is laid over it,
    mirror images are embedded too, and photos of the progressive_sizes are taken.
    """
    train, clean = params.train, params.clean
    return make_embedder(
        train.backbone,
        train.weights,
        train.pooling,
        neck,
        train.dimensions,
        train.schedule.image_size,
        clean.short_side,
        clean.max_megapixels,
        train.fit,
        [(member.backbone, member.weights) for member in train.joined],
        attention=None if classes is None else train.attention,
        classes=None if train.attention is None else classes,
        mirrored=train.mirrored and classes is not None,
        any_size=classes is not None and len(train.schedule.progressive_sizes) > 0,
    )
