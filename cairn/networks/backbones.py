"""Any timm backbone as a feature extractor, with weights from the hub, from a file, or none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

PROBE_SEED = 0x5EED_CA1C  # of no meaning, and unlike any that weights were made with


class BackboneError(ValueError):
    """A backbone or weights that cannot be had."""


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


def make_backbone(name: str, weights: str, image_size: int, classes: int = 0) -> nn.Module:
    """The network without its classifier; `forward_features` gives a feature map or tokens.

    weights: "none" (random, by torch's seed), "hub" (timm downloads them), or a .safetensors or .pth file.
    classes: over 0 keeps a classifier of so many classes.
    Raises BackboneError if timm does not know the name or the weights do not fit.
    """
    config = _config(name)
    arguments: dict[str, Any] = {"num_classes": classes}
    if classes == 0:
        arguments["global_pool"] = ""
    if config.fixed_input_size and image_size != config.input_size[-1]:
        arguments["img_size"] = image_size
    if weights == "none":
        return timm.create_model(name, pretrained=False, **arguments)  # type: ignore[no-any-return]
    if weights != "hub":
        if not Path(weights).is_file():
            raise BackboneError(f"weights {weights!r}: no such file; give a .safetensors or .pth file, hub, or none")
        arguments["pretrained_cfg_overlay"] = {"file": weights, **({"num_classes": classes} if classes else {})}
    plain = {key: value for key, value in arguments.items() if key != "pretrained_cfg_overlay"}
    try:
        fresh = _seeded(name, pretrained=False, **plain)
        network = _seeded(name, pretrained=True, **arguments)
    except (RuntimeError, OSError, ValueError) as error:
        raise BackboneError(f"{name}: weights {weights!r} cannot be loaded: {error}") from error
    # timm passes over keys that it does not find, and would leave those tensors as the seed made them.
    loaded = network.state_dict()
    random = [k for k, v in fresh.state_dict().items() if v.ndim > 1 and v.std() > 0 and torch.equal(v, loaded[k])]
    if random:
        raise BackboneError(f"{name}: weights {weights!r} are of another network; they have no {', '.join(random[:3])}")
    return network


def _seeded(name: str, **arguments: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(PROBE_SEED)
        return timm.create_model(name, **arguments)  # type: ignore[no-any-return]


@torch.no_grad()
def feature_shape(backbone: nn.Module, image_size: int) -> tuple[int, int]:
    """Channels of the features, and how many tokens come before the patches (-1 where features are a map)."""
    training = backbone.training
    features = features_of(backbone.eval(), torch.zeros(1, 3, image_size, image_size))
    backbone.train(training)
    if features.ndim == 4:
        return int(features.shape[1]), -1
    return int(features.shape[2]), int(getattr(backbone, "num_prefix_tokens", 0))


def features_of(backbone: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """A map [batch, channels, height, width], also of backbones that give their channels last, or tokens
    [batch, tokens, channels], from images [batch, 3, size, size].
    """
    features: torch.Tensor = backbone.forward_features(images)  # type: ignore[operator]
    if str(getattr(backbone, "output_fmt", "NCHW")) == "NHWC":
        return features.permute(0, 3, 1, 2)
    return features
