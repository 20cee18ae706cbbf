"""From pooled features to the embedding, before it is made a unit vector. A new neck is one function here, one line in
NECKS, and its name in params.py.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from cairn.networks.params import NeckName

FLOOR = 1e-6
STARTED: frozenset[NeckName] = frozenset({"none", "linear"})  # necks that may start from features


def none(width: int, dimensions: int) -> nn.Module:
    """Features as they are."""
    return nn.Identity()


def linear(width: int, dimensions: int) -> nn.Module:
    """Linear without bias, then BatchNorm (the usual neck of the GLDv2 systems)."""
    return nn.Sequential(nn.Linear(width, dimensions, bias=False), nn.BatchNorm1d(dimensions))


def linear_relu(width: int, dimensions: int) -> nn.Module:
    """Linear, BatchNorm, ReLU (the GLR-2021 ArcFace system)."""
    return nn.Sequential(nn.Linear(width, dimensions), nn.BatchNorm1d(dimensions), _last_relu())


def linear_prelu(width: int, dimensions: int) -> nn.Module:
    """Linear, BatchNorm, PReLU (Ha et al. 2020, arXiv:2010.05350)."""
    return nn.Sequential(nn.Linear(width, dimensions), nn.BatchNorm1d(dimensions), nn.PReLU())


def dropout_linear(width: int, dimensions: int) -> nn.Module:
    """BatchNorm, Dropout 0.2, Linear (the EfficientNet system)."""
    return nn.Sequential(nn.BatchNorm1d(width), nn.Dropout(0.2), nn.Linear(width, dimensions))


def vgg(width: int, dimensions: int) -> nn.Module:
    """Linear, ReLU, Dropout 0.5, and the same again: VGG's classifier without its last layer, there 4096 wide
    (Simonyan and Zisserman 2015, arXiv:1409.1556).
    """
    first = (nn.Linear(width, dimensions), nn.ReLU(), nn.Dropout(0.5))
    return nn.Sequential(*first, nn.Linear(dimensions, dimensions), _last_relu(), nn.Dropout(0.5))


def _last_relu() -> nn.Module:
    """ReLU at a neck's end, with FLOOR in the place of 0: of all zeros there is no unit vector."""
    return nn.Threshold(FLOOR, FLOOR)


# name -> neck, float32 [batch, width] -> float32 [batch, dimensions], from (width, dimensions)
NECKS: dict[NeckName, Callable[[int, int], nn.Module]] = {
    "none": none,
    "linear": linear,
    "linear_relu": linear_relu,
    "linear_prelu": linear_prelu,
    "dropout_linear": dropout_linear,
    "vgg": vgg,
}
