"""Any timm backbone as a feature extractor, with weights from the hub, from a file, or none."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from timm.models.vgg import VGG
from torch import nn

PROBE_SEED = 0x5EED_CA1C  # of no meaning, and unlike any that weights were made with


LFS_POINTER = b"version https://git-lfs"


class BackboneError(ValueError):
    """A backbone, weights or a shape of features that cannot be had."""


class FeatureShape(NamedTuple):
    """What `features_of` gives for one photo."""

    channels: int
    prefix_tokens: int  # class and register tokens, which come before the patches; 0 where features are a map
    height: int  # places; of patches that fold into no square, 1
    width: int
    tokens: bool = False  # and no map
    class_token: bool = False  # the first of the tokens is one


def default_size(name: str) -> int:
    """The square input in pixels that the backbone was made for. Raises BackboneError if timm does not know it."""
    return int(_config(name).input_size[-1])


def colours(name: str) -> tuple[tuple[float, ...], tuple[float, ...], str]:
    """Mean, standard deviation and interpolation that the backbone's weights were trained with."""
    config = _config(name)
    return tuple(config.mean), tuple(config.std), config.interpolation


def _config(name: str) -> Any:
    architecture = name.split(".", maxsplit=1)[0]
    config = timm.models.get_pretrained_cfg(name, allow_unregistered=False) if timm.is_model(architecture) else None
    if config is None:
        close = ", ".join(timm.list_models(f"*{architecture.split('_', maxsplit=1)[0]}*")[:8])
        raise BackboneError(f"train.backbone = {name!r}: timm knows no such model; near it: {close or 'none'}")
    return config


def make_backbone(name: str, weights: str, image_size: int, classes: int = 0, any_size: bool = False) -> nn.Module:
    """The network without its classifier; `forward_features` gives a feature map or tokens.

    weights: "none" (random, by torch's seed), "hub" (timm downloads them), or a .safetensors or .pth file.
    classes: over 0 keeps a classifier of so many classes.
    any_size: position embeddings, made for `image_size`, are interpolated for photos of other sizes.
    Raises BackboneError if timm does not know the name, the weights do not fit, or the network has one size only.
    """
    config = _config(name)
    arguments: dict[str, Any] = {"num_classes": classes}
    if classes == 0:
        arguments["global_pool"] = ""
    if config.fixed_input_size and image_size != config.input_size[-1]:
        arguments["img_size"] = image_size
    if any_size and config.fixed_input_size:
        arguments["dynamic_img_size"] = True
    if weights == "none":
        return _created(name, pretrained=False, **arguments)
    if weights != "hub":
        if not Path(weights).is_file():
            raise BackboneError(f"weights {weights!r}: no such file; give a .safetensors or .pth file, hub, or none")
        arguments["pretrained_cfg_overlay"] = {"file": weights, **({"num_classes": classes} if classes else {})}
    plain = {key: value for key, value in arguments.items() if key != "pretrained_cfg_overlay"}
    fresh = _seeded(name, pretrained=False, **plain)
    try:
        network = _seeded(name, pretrained=True, **arguments)
    except Exception as error:  # of a broken file it may be of any kind
        advice = "give a whole .safetensors or .pth file of tensors by name, hub, or none"
        raise BackboneError(f"{name}: weights {weights!r} cannot be loaded: {why(weights, error)}; {advice}") from error
    # timm passes over keys that it does not find, and would leave those tensors as the seed made them.
    loaded = network.state_dict()
    random = [k for k, v in fresh.state_dict().items() if v.ndim > 1 and v.std() > 0 and torch.equal(v, loaded[k])]
    if random:
        raise BackboneError(f"{name}: weights {weights!r} are of another network; they have no {', '.join(random[:3])}")
    return network


def why(weights: str, error: Exception) -> str:
    """What is wrong with a file of weights whose reader raised `error`, in one sentence."""
    if Path(weights).is_file():
        with Path(weights).open("rb") as file:
            start = file.read(len(LFS_POINTER))
        if start == LFS_POINTER:
            return "it is a Git LFS pointer, in the place of which `git lfs pull` puts the file"
        if not start:
            return "it is empty"
    # Sentences after the first are advice that is none here, such as to run the code in the file.
    return f"{type(error).__name__}: {' '.join(str(error).split())}".partition(". ")[0]


def _seeded(name: str, **arguments: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(PROBE_SEED)
        return _created(name, **arguments)


def _created(name: str, **arguments: Any) -> nn.Module:
    try:
        network: nn.Module = timm.create_model(name, **arguments)
    except TypeError as error:
        if "dynamic_img_size" not in str(error):
            raise
        raise BackboneError(f"{name} takes photos of one size only: without progressive_sizes") from error
    if isinstance(network, VGG) and arguments["num_classes"] == 0:
        network.pre_logits = nn.Identity()  # 120 million weights that only the classifier left out would use
    return network


@torch.no_grad()
def feature_shape(backbone: nn.Module, image_size: int) -> FeatureShape:
    """The shape of the features of square photos of `image_size` pixels."""
    training = backbone.training
    features = features_of(backbone.eval(), torch.zeros(1, 3, image_size, image_size))
    backbone.train(training)
    if features.ndim == 4:
        return FeatureShape(features.shape[1], 0, *features.shape[2:])
    prefix = int(getattr(backbone, "num_prefix_tokens", 0))
    places = features.shape[1] - prefix
    side = math.isqrt(places)
    height, width = (side, side) if side * side == places else (1, places)
    class_token = prefix > 0 and getattr(backbone, "cls_token", None) is not None
    return FeatureShape(features.shape[2], prefix, height, width, tokens=True, class_token=class_token)


def features_of(backbone: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """A map [batch, channels, height, width], also of backbones that give their channels last, or tokens
    [batch, tokens, channels], from images [batch, 3, size, size].
    """
    features: torch.Tensor = backbone.forward_features(images)  # type: ignore[operator]
    if str(getattr(backbone, "output_fmt", "NCHW")) == "NHWC":
        return features.permute(0, 3, 1, 2)
    return features


def folded(patches: torch.Tensor) -> torch.Tensor:
    """Patch tokens [batch, side x side, channels], row by row, as a map [batch, channels, side, side].

    Raises BackboneError if their number is no square.
    """
    side = math.isqrt(patches.shape[1])
    if side * side != patches.shape[1]:
        raise BackboneError(f"{patches.shape[1]} patch tokens do not fold into a square map; is the input square?")
    return patches.transpose(1, 2).reshape(-1, patches.shape[2], side, side)


def as_map(features: torch.Tensor, prefix_tokens: int) -> torch.Tensor:
    """What `features_of` gives as a map [batch, channels, height, width]. Raises BackboneError as `folded` does."""
    return features if features.ndim == 4 else folded(features[:, prefix_tokens:])
