"""The embedder: backbones -> pooling -> neck -> unit vector; made from params, saved and loaded as data."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, model_validator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cairn.answering.preprocess import Colour, Preprocessing
from cairn.networks.attention import AttentionBackbone, AttentionBranch
from cairn.networks.backbones import FeatureShape, colours, default_size, feature_shape, features_of, make_backbone
from cairn.networks.device import autocast
from cairn.networks.necks import NECKS, STARTED
from cairn.networks.params import AttentionParams, NeckName, PoolingName, Precision
from cairn.networks.pooling import POOLINGS

MODEL_FILE = "model.safetensors"
CONFIG_FILE = "config.json"


class BranchConfig(BaseModel):
    """One backbone and what is made of its features."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: str
    pooling: PoolingName
    mean: Colour  # of the colours that the backbone expects, 0 to 1
    std: Colour
    attention: AttentionParams | None = None  # of the attention branch laid over the backbone, if there is one
    classes: int | None = None  # that the attention branch tells apart

    @model_validator(mode="after")
    def _attention_has_classes(self) -> BranchConfig:
        if (self.attention is None) != (self.classes is None):
            raise ValueError("an attention branch needs the number of its classes, and only it has one")
        return self


class EmbedderConfig(BaseModel):
    """All that is needed to rebuild the network and to feed it; saved beside the weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    branches: tuple[BranchConfig, ...]
    neck: NeckName
    dimensions: int
    preprocessing: Preprocessing
    mirrored: bool = False  # embed a photo and its mirror image


class Seen(NamedTuple):
    """What training and pictures look at of photos."""

    features: Tensor  # what comes out of the neck [batch, dimensions]
    scores: Tensor | None  # logits of the attention branch [batch, classes]
    attention: Tensor | None  # its map [batch, 1, height, width], in (0, 1)


class Branch(nn.Module):
    """A backbone with its pooling: images float32 [batch, 3, size, size] -> float32 [batch, width]."""

    scale: Tensor
    shift: Tensor

    def __init__(self, config: BranchConfig, backbone: nn.Module, preprocessing: Preprocessing) -> None:
        """Images come with the colours of `preprocessing`; those of `config` are made from them. An attention branch,
        where `config` has one, is laid over the backbone here, with random weights.
        """
        super().__init__()
        if config.attention is not None and config.classes is not None:
            backbone = AttentionBackbone(backbone, preprocessing.size, config.classes, config.attention)
        self.backbone = backbone
        self.pooling = POOLINGS[config.pooling](feature_shape(backbone, preprocessing.size))
        self.width = self.pooling.width
        mean, std = torch.tensor(config.mean), torch.tensor(config.std)
        self.recolour = (config.mean, config.std) != (preprocessing.mean, preprocessing.std)
        self.register_buffer("scale", (torch.tensor(preprocessing.std) / std)[:, None, None], persistent=False)
        shift = (torch.tensor(preprocessing.mean) - mean) / std
        self.register_buffer("shift", shift[:, None, None], persistent=False)

    @property
    def trunk(self) -> nn.Module:
        """The backbone without an attention branch."""
        return self.backbone.backbone if isinstance(self.backbone, AttentionBackbone) else self.backbone

    @property
    def attention(self) -> AttentionBranch | None:
        """The attention branch, if there is one."""
        return self.backbone.attention if isinstance(self.backbone, AttentionBackbone) else None

    def forward(self, images: Tensor) -> Tensor:
        """Features as the class says."""
        return self.pooling(features_of(self.backbone, self._recoloured(images)))  # type: ignore[no-any-return]

    def seen(self, images: Tensor) -> Seen:
        """The pooled features [batch, width] with what the attention branch says, in one pass."""
        if not isinstance(self.backbone, AttentionBackbone):
            return Seen(self(images), None, None)
        found = self.backbone.branches(self._recoloured(images))
        return Seen(self.pooling(found.features), found.scores, found.attention)

    def _recoloured(self, images: Tensor) -> Tensor:
        return images * self.scale + self.shift if self.recolour else images


class Embedder(nn.Module):
    """Images float32 [batch, 3, size, size] -> unit vectors float32 [batch, dimensions].

    The features of several backbones are joined as vectors of one length, so that none outweighs another: of length 1
    for a neck that starts from features, and otherwise of root mean square 1, which is what a neck's random start is
    made for. With `config.mirrored`, the unit vectors of each image and of its mirror image are added, and made a unit
    vector again.
    """

    branches: Sequence[Branch]

    def __init__(self, config: EmbedderConfig, backbones: Sequence[nn.Module]) -> None:
        super().__init__()
        self.config = config
        pairs = zip(config.branches, backbones, strict=True)
        branches = [Branch(branch, network, config.preprocessing) for branch, network in pairs]
        self.branches = nn.ModuleList(branches)  # type: ignore[assignment]
        width = sum(branch.width for branch in branches)
        self.length = 1.0 if config.neck in STARTED else (width / len(branches)) ** 0.5  # of each backbone's features
        self.neck = NECKS[config.neck](width, config.dimensions)

    def pooled(self, images: Tensor) -> Tensor:
        """What goes into the neck: float32 [batch, width]."""
        return self._joined([branch(images) for branch in self.branches])

    def features(self, images: Tensor) -> Tensor:
        """What comes out of the neck, before it is made a unit vector: float32 [batch, dimensions]."""
        return self.neck(self.pooled(images))  # type: ignore[no-any-return]

    def seen(self, images: Tensor) -> Seen:
        """`features` together with what the first backbone's attention branch says, if there is one, in one pass."""
        first, *others = self.branches
        found = first.seen(images)
        pooled = self._joined([found.features, *(branch(images) for branch in others)])
        return found._replace(features=self.neck(pooled))

    def forward(self, images: Tensor) -> Tensor:
        """Embed as the class says."""
        return mirrored(self._unit, images) if self.config.mirrored else self._unit(images)

    def _unit(self, images: Tensor) -> Tensor:
        return nn.functional.normalize(self.features(images).float(), dim=1)  # of length 1 to more than bf16 can say

    def _joined(self, parts: Sequence[Tensor]) -> Tensor:
        if len(parts) == 1:
            return parts[0]
        return torch.cat([nn.functional.normalize(part, dim=1) for part in parts], dim=1) * self.length


def mirrored(embed: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """The mean direction of what `embed` makes of images [batch, 3, size, size] and of their mirror images.

    Unit vectors float32 [batch, dimensions], as those of `embed` are.
    """
    both = embed(torch.cat([images, images.flip(3)]))
    # Not chunk nor len: they would fix the exported batch size.
    return nn.functional.normalize(both.view(2, images.shape[0], -1).sum(dim=0), dim=1)


def make_embedder(
    backbone: str,
    weights: str,
    pooling: PoolingName | Literal["auto"],
    neck: NeckName,
    dimensions: int | None,
    image_size: int | None,
    short_side: int,
    max_megapixels: float,
    fit: str,
    joined: Sequence[tuple[str, str]] = (),
    attention: AttentionParams | None = None,
    classes: int | None = None,
    mirrored: bool = False,
    any_size: bool = False,
) -> Embedder:
    """An embedder from params; see `cairn.params.TrainParams`. `joined` names further backbones and their weights.

    attention: lays an attention branch for so many `classes` over the first backbone, and over no other.
    any_size: photos of other sizes than `image_size` are taken too, for training; it is not saved.
    Raises BackboneError or ValueError.
    """
    size = image_size or default_size(backbone)
    members = [(backbone, weights), *joined]
    networks = [make_backbone(name, given, size, any_size=any_size) for name, given in members]
    shapes = [feature_shape(network, size) for network in networks]
    poolings = [_pooling(pooling, shape) for shape in shapes]
    width = sum(POOLINGS[kind](shape).width for shape, kind in zip(shapes, poolings, strict=True))
    over = [(attention, classes)] + [(None, None)] * len(joined)
    branches = tuple(
        BranchConfig(
            backbone=name, pooling=kind, mean=colours(name)[0], std=colours(name)[1], attention=laid, classes=count
        )
        for (name, _), kind, (laid, count) in zip(members, poolings, over, strict=True)
    )
    config = EmbedderConfig(
        branches=branches,
        neck=neck,
        dimensions=width if neck == "none" else dimensions or width,
        preprocessing=preprocessing_for(backbone, size, fit, short_side, max_megapixels),
        mirrored=mirrored,
    )
    return Embedder(config, networks)


def preprocessing_for(backbone: str, size: int, fit: str, short_side: int, max_megapixels: float) -> Preprocessing:
    """What a photo goes through before a backbone: its colours and its interpolation, which is bicubic if we have not
    got it. Raises BackboneError, or ValueError as Preprocessing does.
    """
    mean, std, interpolation = colours(backbone)
    return Preprocessing(
        size=size,
        mean=mean,
        std=std,
        interpolation="bilinear" if interpolation == "bilinear" else "bicubic",
        fit=fit,
        short_side=short_side,
        max_megapixels=max_megapixels,
    )


def _pooling(wanted: PoolingName | Literal["auto"], shape: FeatureShape) -> PoolingName:
    if wanted != "auto":
        return wanted
    if not shape.tokens:
        return "gem"
    return "class_mean" if shape.class_token else "mean"  # not gem, which is blind to the half of tokens under 0


def save_embedder(embedder: Embedder, folder: Path) -> None:
    """Write model.safetensors and config.json into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().contiguous().cpu() for name, tensor in embedder.state_dict().items()}
    save_file(state, folder / MODEL_FILE)
    (folder / CONFIG_FILE).write_text(json.dumps(embedder.config.model_dump(exclude_none=True), indent=2) + "\n")


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
def embed_batch(embedder: Embedder, images: Tensor, precision: Precision = "fp32") -> Tensor:
    """Unit vectors on the CPU, float32 [batch, dimensions], computed on the embedder's own device."""
    device = next(embedder.parameters()).device
    with autocast(device, precision):
        return embedder(images.to(device, non_blocking=True)).float().cpu()  # type: ignore[no-any-return]
