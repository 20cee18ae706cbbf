"""Sub-center ArcFace: several centres a class, and margins that grow as classes get smaller."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cairn.losses.arcface import with_margin
from cairn.losses.base import CLASS_BLOCK, LossHead, class_means

SPREAD = 0.1  # how far a class's centres start from its mean, as a share of the mean


class SubCenterArcFace(LossHead):
    """ArcFace whose classes have `centres` weights each, of which the nearest to a photo counts (Deng et al. 2020,
    ECCV), and a margin of their own (Ha et al. 2020, arXiv:2010.05350).

    Weights are [classes, centres, dimensions]; margins, a buffer of the class sizes alone and so not saved, [classes].
    """

    margins: Tensor

    def __init__(
        self,
        dimensions: int,
        class_sizes: NDArray[np.int64],
        scale: float,
        margin_low: float,
        margin_high: float,
        centres: int,
    ) -> None:
        """`class_sizes`: photos of each class, int64 [classes]. Raises ValueError if one has none."""
        super().__init__()
        self.scale = scale
        margins = dynamic_margins(class_sizes, margin_low, margin_high)
        self.register_buffer("margins", torch.from_numpy(margins).float(), persistent=False)
        weight = nn.init.xavier_uniform_(torch.empty(len(class_sizes) * centres, dimensions))
        self.weight = nn.Parameter(weight.view(len(class_sizes), centres, dimensions))

    def forward(self, features: Tensor, classes: Tensor) -> Tensor:
        """Mean cross-entropy of the cosines with the margins, times `scale`; shapes as in LossHead."""
        cosines = with_margin(self.scores(features), classes, self.margins[classes][:, None])
        return self.cross_entropy(self.scale * cosines, classes)

    def scores(self, features: Tensor) -> Tensor:
        """Cosine to the nearest centre of each class, without a margin."""
        units = nn.functional.normalize(features.float(), dim=1)
        cosines = units @ nn.functional.normalize(self.weight.flatten(0, 1), dim=1).T
        return cosines.view(-1, *self.weight.shape[:2]).max(dim=2).values

    @torch.no_grad()
    def start(self, features: Tensor, classes: Tensor) -> None:
        """Set each class's centres around the mean of its photos' unit vectors.

        Each goes SPREAD of the way its random weight points: of centres on one spot only the first would ever learn.
        """
        means = class_means(features, classes, torch.zeros_like(self.weight[:, 0]))
        for first in range(0, len(means), CLASS_BLOCK):
            mean, weight = means[first : first + CLASS_BLOCK], self.weight[first : first + CLASS_BLOCK]
            random = nn.functional.normalize(weight, dim=2)
            weight.copy_(nn.functional.normalize(mean[:, None] + SPREAD * random, dim=2))

    def centres(self) -> tuple[Tensor, float]:
        """Several a class."""
        return nn.functional.normalize(self.weight.detach(), dim=2), self.scale


def dynamic_margins(class_sizes: NDArray[np.int64], low: float, high: float) -> NDArray[np.float64]:
    """The margin of each class in radians, float64 [classes]: `low` for the largest class, `high` for the smallest.

    low + (high - low) (t - min t) / (max t - min t) with t = n^(-1/4) for n photos (Ha et al. 2020, arXiv:2010.05350);
    `low` for all where all are of one size. Raises ValueError if a class has no photo.
    """
    if class_sizes.min() < 1:
        raise ValueError(f"class {int(class_sizes.argmin())} has {class_sizes.min()} photos; a margin needs at least 1")
    t = class_sizes.astype(np.float64) ** -0.25
    span = float(np.ptp(t)) or 1.0
    margins: NDArray[np.float64] = low + (high - low) * (t - t.min()) / span
    return margins
