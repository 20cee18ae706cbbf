"""ALIKED (Zhao et al. 2023, arXiv:2304.03608) by kornia: keypoints of a small network, for photos of one scale."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from kornia.feature import ALIKED
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from cairn.networks.backbones import BackboneError, why
from cairn.networks.device import best_device
from cairn.retrieval.local.features import Extractor, Features, strongest
from cairn.retrieval.rerankers.local_features import LocalFeaturesParams

MODEL = "aliked-n16"
GRID = "dkd.hw_grid"  # a buffer that the network makes itself
DIMENSIONS = 128
LEAST_SIDE = 32  # pixels; a smaller photo has no features


def aliked(network: ALIKED, min_strength: float) -> Extractor:
    """An extractor from a network in eval mode, which says how many features; a strength is a score in (0, 1)."""

    @torch.inference_mode()
    def extract(image: NDArray[np.uint8]) -> Features:
        if min(image.shape[:2]) < LEAST_SIDE:
            return Features(np.zeros((0, 2), np.float32), np.zeros((0, DIMENSIONS), np.float32))
        device = next(network.parameters()).device
        pixels = torch.tensor(image, device=device).permute(2, 0, 1)[None].float() / 255
        found = network(pixels)[0]
        points, descriptors, scores = (
            part.cpu().numpy() for part in (found.keypoints, found.descriptors, found.keypoint_scores)
        )
        kept = strongest(scores, points, len(points), min_strength)
        return Features(points[kept], descriptors[kept])

    return extract


def load_aliked(weights: str, max_features: int) -> ALIKED:
    """The network in eval mode, on a GPU where there is one, with weights of a .safetensors file.

    Raises BackboneError if there is no such file or it is of another network.
    """
    if not Path(weights).is_file():
        raise BackboneError(f"local_features: weights {weights!r}: no such file; aliked needs a .safetensors file")
    network = ALIKED(MODEL, max_num_keypoints=max_features, detection_threshold=0.0)
    try:
        state = {GRID: network.state_dict()[GRID], **load_file(weights)}
        network.load_state_dict(state, strict=True)
    except (SafetensorError, RuntimeError) as error:
        raise BackboneError(
            f"local_features: weights {weights!r} are none of {MODEL}: {why(weights, error)}; give its own file"
        ) from error
    return network.eval().to(best_device())


def build(params: LocalFeaturesParams, model: Path, photos: Iterable[NDArray[np.uint8]]) -> Extractor:
    """From params; the trained network and its photos play no part. Raises BackboneError as `load_aliked` does."""
    return aliked(load_aliked(params.weights, params.max_features), params.min_strength)
