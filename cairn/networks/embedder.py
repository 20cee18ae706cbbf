"""The embedder: backbones -> pooling -> neck -> unit vector; made from params, saved and loaded as data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cairn.answering.preprocess import Colour, Preprocessing
from cairn.networks.backbones import colours, default_size, feature_shape, features_of, make_backbone
from cairn.networks.pooling import POOLINGS

MODEL_FILE = "model.safetensors"
CONFIG_FILE = "config.json"


class BranchConfig(BaseModel):
    """One backbone and what is made of its features."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: str
    pooling: Literal["gem", "mean", "class_mean"]
    mean: Colour  # of the colours that the backbone expects, 0 to 1
    std: Colour


class EmbedderConfig(BaseModel):
    """All that is needed to rebuild the network and to feed it; saved beside the weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    branches: tuple[BranchConfig, ...]
    neck: Literal["none", "linear"]
    dimensions: int
    preprocessing: Preprocessing


class Branch(nn.Module):
    """A backbone with its pooling: images float32 [batch, 3, size, size] -> float32 [batch, width]."""

    scale: Tensor
    shift: Tensor

    def __init__(self, config: BranchConfig, backbone: nn.Module, preprocessing: Preprocessing) -> None:
        """Images come with the colours of `preprocessing`; those of `config` are made from them."""
        super().__init__()
        channels, prefix = feature_shape(backbone, preprocessing.size)
        self.backbone = backbone
        self.pooling = POOLINGS[config.pooling](max(0, prefix))
        self.width = channels * self.pooling.factor
        mean, std = torch.tensor(config.mean), torch.tensor(config.std)
        self.recolour = (config.mean, config.std) != (preprocessing.mean, preprocessing.std)
        self.register_buffer("scale", (torch.tensor(preprocessing.std) / std)[:, None, None], persistent=False)
        shift = (torch.tensor(preprocessing.mean) - mean) / std
        self.register_buffer("shift", shift[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Features as the class says."""
        if self.recolour:
            images = images * self.scale + self.shift
        return self.pooling(features_of(self.backbone, images))  # type: ignore[no-any-return]


class Embedder(nn.Module):
    """Images float32 [batch, 3, size, size] -> unit vectors float32 [batch, dimensions].

    The features of several backbones are joined as unit vectors, so that none outweighs another.
    """

    branches: Sequence[Branch]

    def __init__(self, config: EmbedderConfig, backbones: Sequence[nn.Module]) -> None:
        super().__init__()
        self.config = config
        pairs = zip(config.branches, backbones, strict=True)
        branches = [Branch(branch, network, config.preprocessing) for branch, network in pairs]
        self.branches = nn.ModuleList(branches)  # type: ignore[assignment]
        self.neck = make_neck(config.neck, sum(branch.width for branch in branches), config.dimensions)

    def pooled(self, images: Tensor) -> Tensor:
        """What goes into the neck: float32 [batch, width]."""
        parts = [branch(images) for branch in self.branches]
        if len(parts) == 1:
            return parts[0]  # type: ignore[no-any-return]
        return torch.cat([nn.functional.normalize(part, dim=1) for part in parts], dim=1)

    def features(self, images: Tensor) -> Tensor:
        """What comes out of the neck, before it is made a unit vector: float32 [batch, dimensions]."""
        return self.neck(self.pooled(images))  # type: ignore[no-any-return]

    def forward(self, images: Tensor) -> Tensor:
        """Embed as the class says."""
        return nn.functional.normalize(self.features(images), dim=1)


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
    joined: Sequence[tuple[str, str]] = (),
) -> Embedder:
    """An embedder from params; see `cairn.params.TrainParams`. `joined` names further backbones and their weights.

    Raises BackboneError or ValueError.
    """
    size = image_size or default_size(backbone)
    members = [(backbone, weights), *joined]
    networks = [make_backbone(name, given, size) for name, given in members]
    shapes = [feature_shape(network, size) for network in networks]
    poolings = [_pooling(pooling, prefix) for _, prefix in shapes]
    width = sum(channels * POOLINGS[kind].factor for (channels, _), kind in zip(shapes, poolings, strict=True))
    mean, std, interpolation = colours(backbone)
    branches = [
        {"backbone": name, "pooling": kind, "mean": colours(name)[0], "std": colours(name)[1]}
        for (name, _), kind in zip(members, poolings, strict=True)
    ]
    config = EmbedderConfig.model_validate(
        {
            "branches": branches,
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
    return Embedder(config, networks)


def _pooling(wanted: str, prefix_tokens: int) -> str:
    if wanted != "auto":
        return wanted
    return "class_mean" if prefix_tokens > 0 else "gem"


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
    size = config.preprocessing.size
    embedder = Embedder(config, [make_backbone(branch.backbone, "none", size) for branch in config.branches])
    embedder.load_state_dict(load_file(folder / MODEL_FILE), strict=True)
    return embedder.eval()


@torch.inference_mode()
def embed_batch(embedder: Embedder, images: Tensor) -> Tensor:
    """Unit vectors on the CPU, float32 [batch, dimensions], computed on the embedder's own device."""
    device = next(embedder.parameters()).device
    return embedder(images.to(device, non_blocking=True)).float().cpu()  # type: ignore[no-any-return]
