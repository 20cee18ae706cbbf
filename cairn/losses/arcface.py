"""ArcFace: an additive angular margin on a cosine classifier (Deng et al. 2019, arXiv:1801.07698)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from cairn.losses.base import LossHead, class_means


class ArcFace(LossHead):
    """Cosine classifier with weights [classes, dimensions] and, in the loss, a margin on the true class."""

    def __init__(self, dimensions: int, classes: int, scale: float, margin: float) -> None:
        """`margin` in radians."""
        super().__init__()
        self.scale, self.margin = scale, margin
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(classes, dimensions)))

    def forward(self, features: Tensor, classes: Tensor) -> Tensor:
        """Mean cross-entropy of the cosines with the margin, times `scale`; shapes as in LossHead."""
        return self.cross_entropy(self.scale * with_margin(self.scores(features), classes, self.margin), classes)

    def scores(self, features: Tensor) -> Tensor:
        """Cosine to each class, without a margin."""
        units = nn.functional.normalize(features.float(), dim=1)
        return units @ nn.functional.normalize(self.weight, dim=1).T

    @torch.no_grad()
    def start(self, features: Tensor, classes: Tensor) -> None:
        """Set each class's weight to the mean of its photos' unit vectors."""
        self.weight.copy_(class_means(features, classes, self.weight))

    def centres(self) -> tuple[Tensor, float]:
        """One a class."""
        return nn.functional.normalize(self.weight.detach(), dim=1)[:, None], self.scale


def with_margin(cosines: Tensor, classes: Tensor, margin: float | Tensor) -> Tensor:
    """`cosines` [batch, classes] with the true class's one made cos(angle + margin).

    Beyond pi - margin, where that would rise again, cos(angle) - margin sin(margin): the paper's "easy margin off".
    `margin` is in radians, one for all or [batch, 1].
    """
    turn = (margin.cos(), margin.sin()) if isinstance(margin, Tensor) else (math.cos(margin), math.sin(margin))
    true = cosines.gather(1, classes[:, None])
    sines = (1 - true.clamp(-1, 1) ** 2).clamp(min=1e-12).sqrt()
    shifted = true * turn[0] - sines * turn[1]
    shifted = torch.where(true < -turn[0], true - margin * turn[1], shifted)
    return cosines.scatter(1, classes[:, None], shifted)
