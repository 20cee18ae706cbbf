"""From a backbone's features to one vector a photo. A new pooling is one class here and one line in POOLINGS."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Gem(nn.Module):
    """Generalised mean, (mean x^p)^(1/p), with p learnt (Radenovic et al. 2018, arXiv:1711.02512).

    Maps [batch, channels, height, width] or tokens [batch, tokens, channels] to [batch, channels]; class tokens are
    left out. Values under 1e-6 count as 1e-6.
    """

    factor = 1

    def __init__(self, prefix_tokens: int) -> None:
        super().__init__()
        self.prefix_tokens = prefix_tokens
        self.p = nn.Parameter(torch.tensor(3.0))

    def forward(self, features: Tensor) -> Tensor:
        """Pool as the class says."""
        powered = features.float().clamp(min=1e-6) ** self.p
        return _mean(powered, self.prefix_tokens) ** (1 / self.p)


class Mean(nn.Module):
    """Plain mean over places or patch tokens; shapes as in Gem."""

    factor = 1

    def __init__(self, prefix_tokens: int) -> None:
        super().__init__()
        self.prefix_tokens = prefix_tokens

    def forward(self, features: Tensor) -> Tensor:
        """Pool as the class says."""
        return _mean(features.float(), self.prefix_tokens)


class ClassMean(nn.Module):
    """The class token and the mean of the patch tokens, each made a unit vector, side by side.

    Maps [batch, tokens, channels] to [batch, 2 channels].
    """

    factor = 2

    def __init__(self, prefix_tokens: int) -> None:
        """Raises ValueError where the backbone has no class token."""
        super().__init__()
        if prefix_tokens < 1:
            raise ValueError("train.pooling = class_mean needs a backbone with a class token; use gem or mean")
        self.prefix_tokens = prefix_tokens

    def forward(self, features: Tensor) -> Tensor:
        """Pool as the class says."""
        features = features.float()
        parts = (features[:, 0], _mean(features, self.prefix_tokens))
        return torch.cat([nn.functional.normalize(part, dim=1) for part in parts], dim=1)


def _mean(features: Tensor, prefix_tokens: int) -> Tensor:
    return features.mean(dim=(2, 3)) if features.ndim == 4 else features[:, prefix_tokens:].mean(dim=1)


Pooling = Gem | Mean | ClassMean
POOLINGS: dict[str, type[Gem] | type[Mean] | type[ClassMean]] = {"gem": Gem, "mean": Mean, "class_mean": ClassMean}
