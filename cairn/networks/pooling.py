"""From a backbone's features to one vector a photo. A new pooling is one class here, one line in POOLINGS, and its name
in params.py.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cairn.networks.backbones import FeatureShape, as_map
from cairn.networks.params import PoolingName

VGG_SIDE = 7


class Pooling(nn.Module):
    """Maps [batch, channels, height, width], or tokens [batch, tokens, channels] of which the prefix tokens come first,
    to float32 [batch, width]. Made for features of one shape.
    """

    width: int

    def __init__(self, shape: FeatureShape) -> None:
        super().__init__()
        self.prefix_tokens = shape.prefix_tokens
        self.width = shape.channels


class Gem(Pooling):
    """Generalised mean, (mean x^p)^(1/p), with p learnt (Radenovic et al. 2018, arXiv:1711.02512), of each channel.

    Class and register tokens are left out. Values under 1e-6 count as 1e-6.
    """

    def __init__(self, shape: FeatureShape) -> None:
        super().__init__(shape)
        self.p = nn.Parameter(torch.tensor(3.0))

    def forward(self, features: Tensor) -> Tensor:
        """Pool as the class says."""
        powered = features.float().clamp(min=1e-6) ** self.p
        return _mean(powered, self.prefix_tokens) ** (1 / self.p)


class Mean(Pooling):
    """Plain mean of each channel over places or patch tokens."""

    def forward(self, features: Tensor) -> Tensor:
        """Pool as the class says."""
        return _mean(features.float(), self.prefix_tokens)


class ClassMean(Pooling):
    """The class token and the mean of the patch tokens, each made a unit vector, side by side: width is 2 channels."""

    def __init__(self, shape: FeatureShape) -> None:
        """Raises ValueError where the backbone has no class token."""
        super().__init__(shape)
        if not shape.class_token:
            raise ValueError("train.pooling = class_mean needs a backbone with a class token; use gem or mean")
        self.width = 2 * shape.channels

    def forward(self, features: Tensor) -> Tensor:
        """Pool as the class says."""
        features = features.float()
        parts = (features[:, 0], _mean(features, self.prefix_tokens))
        return torch.cat([nn.functional.normalize(part, dim=1) for part in parts], dim=1)


class Flatten(Pooling):
    """Every value of the map, brought to VGG_SIDE x VGG_SIDE places by means, channel by channel and row by row: what
    VGG's classifier sees (Simonyan and Zisserman 2015, arXiv:1409.1556). Patch tokens are folded into a map.
    """

    def __init__(self, shape: FeatureShape) -> None:
        super().__init__(shape)
        self.width = shape.channels * VGG_SIDE * VGG_SIDE
        fits = (shape.height, shape.width) == (VGG_SIDE, VGG_SIDE)
        self.means = nn.Identity() if fits else nn.AdaptiveAvgPool2d(VGG_SIDE)

    def forward(self, features: Tensor) -> Tensor:
        """Pool as the class says. Raises BackboneError as `folded` does."""
        return self.means(as_map(features.float(), self.prefix_tokens)).flatten(1)  # type: ignore[no-any-return]


class MaxFlatten(Pooling):
    """The largest value of each 2 x 2 places, channel by channel and row by row; a last odd row or column is left out
    (the GLR-2021 ArcFace system). Patch tokens are folded into a map.
    """

    def __init__(self, shape: FeatureShape) -> None:
        """Raises ValueError where the map has fewer than 2 x 2 places."""
        super().__init__(shape)
        if min(shape.height, shape.width) < 2:
            raise ValueError(
                f"train.pooling = max_flatten needs a map of 2 x 2 places, not {shape.height} x {shape.width}; "
                "use larger photos (image_size), or gem"
            )
        self.width = shape.channels * (shape.height // 2) * (shape.width // 2)

    def forward(self, features: Tensor) -> Tensor:
        """Pool as the class says. Raises BackboneError as `folded` does."""
        return nn.functional.max_pool2d(as_map(features.float(), self.prefix_tokens), 2).flatten(1)


def _mean(features: Tensor, prefix_tokens: int) -> Tensor:
    return features.mean(dim=(2, 3)) if features.ndim == 4 else features[:, prefix_tokens:].mean(dim=1)


POOLINGS: dict[PoolingName, type[Pooling]] = {
    "gem": Gem,
    "mean": Mean,
    "class_mean": ClassMean,
    "flatten": Flatten,
    "max_flatten": MaxFlatten,
}
