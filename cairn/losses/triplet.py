"""Triplet loss with the hardest positive and negative of the batch (Hermans et al. 2017, arXiv:1703.07737)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cairn.losses.base import LossHead, class_means, known

UNSEEN = -1.0  # score of a class of which no photo was seen yet


class Triplet(LossHead):
    """Mean over anchors of log(1 + exp(distance to the farthest photo of its class - distance to the nearest other)).

    Distances are Euclidean and between features as they come. An anchor whose batch has no other photo of its class,
    or none of another class, is left out; a batch without any other anchor has loss 0. Nothing here is learnt; `means`
    [classes, dimensions], a buffer, holds each class's running mean unit vector, zeros before the class is first seen.
    """

    means: Tensor

    def __init__(self, dimensions: int, classes: int, memory: float) -> None:
        """`memory`: the share of a class's running mean that a batch with photos of it leaves in place."""
        # Only here: it takes most of a second, of which the other losses have no need.
        from pytorch_metric_learning.distances import LpDistance  # type: ignore[import-untyped]
        from pytorch_metric_learning.losses import TripletMarginLoss  # type: ignore[import-untyped]
        from pytorch_metric_learning.miners import BatchHardMiner  # type: ignore[import-untyped]
        from pytorch_metric_learning.reducers import MeanReducer  # type: ignore[import-untyped]

        super().__init__()
        self.memory = memory
        distance = LpDistance(normalize_embeddings=False)
        self._mine = BatchHardMiner(distance=distance)
        self._loss = TripletMarginLoss(margin=0, smooth_loss=True, distance=distance, reducer=MeanReducer())
        self.register_buffer("means", torch.zeros(classes, dimensions))

    def forward(self, features: Tensor, classes: Tensor) -> Tensor:
        """The loss; in training mode the running means take the batch in. Shapes as in LossHead."""
        features = features.float()
        if self.training:
            self._remember(features, classes)
        return self._loss(features, classes, self._mine(features, classes))  # type: ignore[no-any-return]

    def scores(self, features: Tensor) -> Tensor:
        """Cosine to each class's running mean; UNSEEN for a class without one."""
        units = nn.functional.normalize(features.float(), dim=1)
        cosines = units @ nn.functional.normalize(self.means, dim=1).T
        return torch.where(known(self.means).T, cosines, UNSEEN)

    @torch.no_grad()
    def start(self, features: Tensor, classes: Tensor) -> None:
        """Set each class's running mean to the mean of its photos' unit vectors."""
        self.means.copy_(class_means(features, classes, self.means))

    @torch.no_grad()
    def _remember(self, features: Tensor, classes: Tensor) -> None:
        present = torch.unique(classes)
        members = (present[:, None] == classes).float()
        new = members @ nn.functional.normalize(features, dim=1) / members.sum(dim=1, keepdim=True)
        old = self.means[present]
        self.means[present] = torch.where(known(old), old.lerp(new, 1 - self.memory), new)
