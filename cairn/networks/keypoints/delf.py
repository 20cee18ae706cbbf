"""Attention keypoints of the trained network itself, after DELF (Noh et al. 2017, arXiv:1612.06321).

Not trained for this: dense features of the embedder's first backbone in several scales, the strongest of them kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from cairn.networks.attention import AttentionBackbone
from cairn.networks.backbones import as_map, features_of
from cairn.networks.device import best_device
from cairn.networks.embedder import Embedder, load_embedder
from cairn.networks.keypoints.projection import fit_projection
from cairn.retrieval.local.features import Extractor, Features, strongest
from cairn.retrieval.local.pixels import reduced
from cairn.retrieval.rerankers.local_features import LocalFeaturesParams

MULTIPLE = 64  # pixels: what a convolutional network is shown has sides of so many times a number
BATCH = 16  # tiles
PCA_PHOTOS = 200  # that the projection is fitted on


class Cells(NamedTuple):
    """Dense features, a row for each cell of a grid over the photo.

    points: float32 [cells, 2], the middle of the cell, in pixels of the photo
    descriptors: float32 [cells, channels]
    strengths: float32 [cells]
    """

    points: NDArray[np.float32]
    descriptors: NDArray[np.float32]
    strengths: NDArray[np.float32]


@dataclass(frozen=True)
class Dense:
    """The embedder's first backbone; `tile` is the side in pixels of its fixed square input, none if it has none."""

    backbone: nn.Module
    prefix_tokens: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    tile: int | None

    @torch.inference_mode()
    def __call__(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """RGB uint8 [n, height, width, 3] -> features [n, rows, columns, channels] and strengths [n, rows, columns].

        A strength is the attention, where the backbone has an attention branch, or the L2 norm of the feature.
        """
        device = next(self.backbone.parameters()).device
        mean, std = (torch.tensor(colour, device=device)[:, None, None] for colour in (self.mean, self.std))
        batch = (torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() / 255 - mean) / std
        if isinstance(self.backbone, AttentionBackbone):
            features, _, attention = self.backbone.branches(batch)
            features, strengths = as_map(features, self.prefix_tokens), attention[:, 0]
        else:
            features = as_map(features_of(self.backbone, batch), self.prefix_tokens)
            strengths = features.norm(dim=1)
        return features.permute(0, 2, 3, 1).cpu().numpy(), strengths.cpu().numpy()


def dense_of(embedder: Embedder) -> Dense:
    """The dense features of an embedder in eval mode, on the device where it is."""
    branch, config = embedder.branches[0], embedder.config.branches[0]
    fixed = timm.models.get_pretrained_cfg(config.backbone).fixed_input_size
    tile = embedder.config.preprocessing.size if fixed else None
    return Dense(branch.backbone, branch.pooling.prefix_tokens, config.mean, config.std, tile)


def cells(dense: Dense, image: NDArray[np.uint8], scale: float) -> Cells:
    """The dense features of an RGB photo uint8 [height, width, 3] brought to `scale` times its size.

    A convolutional backbone sees it whole, its right and lower edge repeated up to a multiple of 64 pixels. One of a
    fixed input size (a ViT, a Swin) sees it in tiles of just this size, side by side, filled up likewise: so position
    embeddings stay as they were trained, and no place is described twice. Cells in what was added are left out.
    """
    height, width = image.shape[:2]
    down, across = max(1, round(height * scale)), max(1, round(width * scale))
    level = np.asarray(Image.fromarray(image).resize((across, down), Image.Resampling.BILINEAR))
    side = dense.tile or MULTIPLE
    filled = np.pad(level, ((0, -down % side), (0, -across % side), (0, 0)), mode="edge")
    features, strengths = _by_tiles(dense, filled)
    step = filled.shape[0] / features.shape[0]
    rows, columns = (np.flatnonzero((np.arange(length) + 0.5) * step < length) for length in (down, across))
    y, x = ((rows + 0.5) * step * height / down - 0.5, (columns + 0.5) * step * width / across - 0.5)
    points = np.stack(np.meshgrid(x, y), axis=-1).astype(np.float32)
    inside = np.ix_(rows, columns)
    return Cells(points.reshape(-1, 2), features[inside].reshape(-1, features.shape[2]), strengths[inside].reshape(-1))


def _by_tiles(dense: Dense, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features [rows, columns, channels] and strengths [rows, columns] of a picture that whole tiles fill."""
    down, across = (dense.tile, dense.tile) if dense.tile else image.shape[:2]
    rows, columns = image.shape[0] // down, image.shape[1] // across
    tiles = image.reshape(rows, down, columns, across, 3).transpose(0, 2, 1, 3, 4).reshape(-1, down, across, 3)
    found = [dense(np.ascontiguousarray(tiles[start : start + BATCH])) for start in range(0, len(tiles), BATCH)]
    features, strengths = (np.concatenate(parts) for parts in zip(*found, strict=True))

    def joined(parts: NDArray[np.float32]) -> NDArray[np.float32]:
        grid = parts.reshape(rows, columns, *parts.shape[1:]).swapaxes(1, 2)
        return grid.reshape(rows * parts.shape[1], columns * parts.shape[2], *parts.shape[3:])

    return joined(features), joined(strengths)


def delf(
    dense: Dense,
    scales: Sequence[float],
    max_features: int,
    min_strength: float,
    shorter: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None,
) -> Extractor:
    """An extractor of the `max_features` strongest cells over all scales; `shorter`, if given, projects descriptors."""

    def extract(image: NDArray[np.uint8]) -> Features:
        levels = [cells(dense, image, scale) for scale in scales]
        points, descriptors, strengths = (np.concatenate(parts) for parts in zip(*levels, strict=True))
        kept = strongest(strengths, points, max_features, min_strength)
        unit = descriptors[kept] / np.maximum(np.linalg.norm(descriptors[kept], axis=1, keepdims=True), 1e-12)
        return Features(points[kept], unit if shorter is None else shorter(unit))

    return extract


def build(params: LocalFeaturesParams, model: Path, photos: Iterable[NDArray[np.uint8]]) -> Extractor:
    """From params and the trained network, on a GPU where there is one; `photos` of the train side fit the projection.

    Raises FileNotFoundError without the network, ValueError if the photos are too few for `dimensions`.
    """
    dense = dense_of(load_embedder(model).to(best_device()))
    extract = delf(dense, params.scales, params.max_features, params.min_strength)
    if params.dimensions is None:
        return extract
    found = [extract(reduced(photo, params.size)).descriptors for photo in islice(photos, PCA_PHOTOS)]
    shorter = fit_projection(np.concatenate(found), params.dimensions)
    return delf(dense, params.scales, params.max_features, params.min_strength, shorter)
