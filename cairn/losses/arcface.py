"""ArcFace: an additive angular margin on a cosine classifier (Deng et al. 2019, arXiv:1801.07698)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class ArcFace(nn.Module):
    """Cosine classifier with weights [classes, dimensions] and, in training, a margin on the true class.

    The true class's logit is cos(angle + margin); beyond pi - margin, where that would rise again,
    cos(angle) - margin sin(margin) (the paper's "easy margin off"). Both times `scale`.
    """

    def __init__(self, dimensions: int, classes: int, scale: float, margin: float) -> None:
        super().__init__()
        self.scale, self.margin = scale, margin
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(classes, dimensions)))

    def cosines(self, embeddings: Tensor) -> Tensor:
        """Unit vectors [batch, dimensions] -> cosine to each class [batch, classes]."""
        return embeddings.float() @ nn.functional.normalize(self.weight, dim=1).T

    def forward(self, embeddings: Tensor, classes: Tensor) -> Tensor:
        """Mean cross-entropy of unit vectors [batch, dimensions] whose classes are int64 [batch]."""
        cosines = self.cosines(embeddings)
        true = cosines.gather(1, classes[:, None])
        sines = (1 - true.clamp(-1, 1) ** 2).clamp(min=1e-12).sqrt()
        shifted = true * math.cos(self.margin) - sines * math.sin(self.margin)
        beyond = true < -math.cos(self.margin)
        shifted = torch.where(beyond, true - self.margin * math.sin(self.margin), shifted)
        return nn.functional.cross_entropy(self.scale * cosines.scatter(1, classes[:, None], shifted), classes)
