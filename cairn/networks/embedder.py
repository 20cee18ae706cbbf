"""The embedder: backbone -> pooling -> neck -> unit vector; made from params, saved and loaded as data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cairn.answering.preprocess import Preprocessing
from cairn.networks.backbones import colours, default_size, feature_shape, make_backbone
from cairn.networks.pooling import POOLINGS

MODEL_FILE = "model.safetensors"
CONFIG_FILE = "config.json"


class EmbedderConfig(BaseModel):
    """All that is needed to rebuild the network and to feed it; saved beside the weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: str
    pooling: Literal["gem", "mean", "class_mean"]
    neck: Literal["none", "linear"]
    dimensions: int
    preprocessing: Preprocessing


class Embedder(nn.Module):
    """Images float32 [batch, 3, size, size] -> unit vectors float32 [batch, dimensions]."""

    def __init__(self, config: EmbedderConfig, backbone: nn.Module) -> None:
        super().__init__()
        channels, prefix = feature_shape(backbone, config.preprocessing.size)
        self.config = config
        self.backbone = backbone
        self.pooling = POOLINGS[config.pooling](max(0, prefix))
        width = channels * self.pooling.factor
        self.neck = make_neck(config.neck, width, config.dimensions)

    def pooled(self, images: Tensor) -> Tensor:
        """What goes into the neck: float32 [batch, width]."""
        return self.pooling(self.backbone.forward_features(images))  # type: ignore[no-any-return, operator]

    def forward(self, images: Tensor) -> Tensor:
        """Embed as the class says."""
        return nn.functional.normalize(self.neck(self.pooled(images)), dim=1)


def make_neck(kind: str, width: int, dimensions: int) -> nn.Module:
    """none: as it is. linear: Linear without bias, then BatchNorm (the usual neck of the GLDv2 systems)."""
    if kind == "none":
        return nn.Identity()
    return nn.Sequential(nn.Linear(width, dimensions, bias=False), nn.BatchNorm1d(dimensions))


def make_embedder(
    backbone: str,
    weights: str,
    pooling: str,
    neck: str,
    dimensions: int | None,
    image_size: int | None,
    short_side: int,
    max_megapixels: float,
    fit: str,
) -> Embedder:
    """An embedder from params; see `cairn.params.TrainParams`. Raises BackboneError or ValueError."""
    size = image_size or default_size(backbone)
    network = make_backbone(backbone, weights, size)
    channels, prefix = feature_shape(network, size)
    if pooling == "auto":
        pooling = "class_mean" if prefix > 0 else "gem"
    width = channels * POOLINGS[pooling].factor
    mean, std, interpolation = colours(backbone)
    config = EmbedderConfig.model_validate(
        {
            "backbone": backbone,
            "pooling": pooling,
            "neck": neck,
            "dimensions": width if neck == "none" else dimensions or width,
            "preprocessing": {
                "size": size,
                "mean": mean,
                "std": std,
                "interpolation": interpolation if interpolation == "bilinear" else "bicubic",
                "fit": fit,
                "short_side": short_side,
                "max_megapixels": max_megapixels,
            },
        }
    )
    return Embedder(config, network)


def save_embedder(embedder: Embedder, folder: Path) -> None:
    """Write model.safetensors and config.json into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().contiguous().cpu() for name, tensor in embedder.state_dict().items()}
    save_file(state, folder / MODEL_FILE)
    (folder / CONFIG_FILE).write_text(json.dumps(embedder.config.model_dump(), indent=2) + "\n")


def load_embedder(folder: Path) -> Embedder:
    """The saved network in eval mode on the CPU. Raises FileNotFoundError naming what to run."""
    for name in (MODEL_FILE, CONFIG_FILE):
        if not (folder / name).exists():
            raise FileNotFoundError(f"{folder / name}: no such file; run `dvc repro train`")
    config = EmbedderConfig.model_validate_json((folder / CONFIG_FILE).read_text())
    embedder = Embedder(config, make_backbone(config.backbone, "none", config.preprocessing.size))
    embedder.load_state_dict(load_file(folder / MODEL_FILE), strict=True)
    return embedder.eval()


@torch.inference_mode()
def embed_batch(embedder: Embedder, images: Tensor) -> Tensor:
    """Unit vectors on the CPU, float32 [batch, dimensions], computed on the embedder's own device."""
    device = next(embedder.parameters()).device
    return embedder(images.to(device, non_blocking=True)).float().cpu()  # type: ignore[no-any-return]
