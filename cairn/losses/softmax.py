"""Softmax: cross-entropy of a plain linear classifier."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from cairn.losses.base import CLASS_BLOCK, LossHead, class_means, known

START_SURENESS = 0.9  # the probability that a photo on its class's mean starts with, if the others are at right angles


class Softmax(LossHead):
    """Linear classifier with a bias. Smoothing moves that share of each label to all classes alike (Szegedy et al.
    2016, arXiv:1512.00567).
    """

    def __init__(self, dimensions: int, classes: int, label_smoothing: float) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.linear = nn.Linear(dimensions, classes)

    def forward(self, features: Tensor, classes: Tensor) -> Tensor:
        """Mean cross-entropy; shapes as in LossHead."""
        return self.cross_entropy(self.logits(features), classes, self.label_smoothing)

    def scores(self, features: Tensor) -> Tensor:
        """Probability of each class; a row sums to 1."""
        return self.logits(features).softmax(dim=1)

    def comparable(self, features: Tensor) -> Tensor:
        """The logits: a probability depends on all classes."""
        return self.logits(features)

    @torch.no_grad()
    def best(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The largest probability and its class; the sum of all is made a block of classes at a time."""
        if self.classes <= CLASS_BLOCK:
            return super().best(features)
        logit, at = super().best(features)
        sums = [values.logsumexp(dim=1) for _, values in self.blocks(features)]
        return (logit - torch.stack(sums).logsumexp(dim=0)).exp(), at

    def logits(self, features: Tensor) -> Tensor:
        """The linear classifier's output."""
        return self.linear(features.float())  # type: ignore[no-any-return]

    def linear_parts(self) -> tuple[Tensor, Tensor]:
        """Weights and biases."""
        return self.linear.weight.detach(), self.linear.bias.detach()

    @torch.no_grad()
    def start(self, features: Tensor, classes: Tensor) -> None:
        """Set weights to the classes' mean unit vectors, of a length that suits features as long as these; no bias.

        The length makes a logit START_SURENESS's scale times the cosine: ln((classes - 1) p / (1 - p)), the bound of
        Wang et al. 2018, arXiv:1801.09414, without its factor (classes - 1) / classes.
        """
        weight = self.linear.weight
        means = class_means(features, classes, torch.zeros_like(weight))
        odds = max(1, len(weight) - 1) * START_SURENESS / (1 - START_SURENESS)
        length = math.log(odds) / features.float().norm(dim=1).mean().clamp(min=1e-6).item()
        weight.copy_(torch.where(known(means), length * means, weight))
        self.linear.bias.zero_()
