"""What every loss has in common: the shape of a head, and the class means it may start from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call

CLASS_BLOCK = 16_384  # classes that are scored at once where only the best one is asked for


class LossHead(nn.Module, ABC):
    """A loss together with what it knows of the classes.

    `features` are the neck's output before it is made a unit vector, float32 [batch, dimensions]; `classes` are class
    numbers, int64 [batch]. Both lie on the head's device.
    """

    class_weights: Tensor | None

    def __init__(self) -> None:
        """`class_weights`, to be set before training where photos do not all count the same, is float32 [classes]."""
        super().__init__()
        self.register_buffer("class_weights", None, persistent=False)

    @abstractmethod
    def forward(self, features: Tensor, classes: Tensor) -> Tensor:
        """The loss, float32 []."""

    @abstractmethod
    def scores(self, features: Tensor) -> Tensor:
        """How sure the head is of each class, float32 [batch, classes]; higher is surer."""

    @abstractmethod
    def start(self, features: Tensor, classes: Tensor) -> None:
        """Set what the head knows from the features of photos, on any device. Classes without a photo stay as is."""

    def rows(self) -> dict[str, Tensor]:
        """All that the head knows, by name: parameters and buffers, each with a row a class."""
        return {**dict(self.named_parameters()), **dict(self.named_buffers())}

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(next(iter(self.rows().values())))

    def comparable(self, features: Tensor) -> Tensor:
        """What is in the order of `scores`, for each class by its own rows alone: float32 [batch, classes]."""
        return self.scores(features)

    @torch.no_grad()
    def best(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The largest of `scores` and its class, float32 and int64 [batch], in the memory of CLASS_BLOCK classes."""
        if self.classes <= CLASS_BLOCK:
            top = self.scores(features).max(dim=1)
            return top.values, top.indices
        best = torch.full((len(features),), -torch.inf, device=features.device)
        at = torch.zeros(len(features), dtype=torch.int64, device=features.device)
        for first, values in self.blocks(features):
            top = values.max(dim=1)
            at = torch.where(top.values > best, first + top.indices, at)
            best = torch.maximum(best, top.values)
        return best, at

    def blocks(self, features: Tensor) -> Iterator[tuple[int, Tensor]]:
        """`comparable` for CLASS_BLOCK classes at a time: the number of the first class, and [batch, classes]."""
        comparing = _Comparing(self)
        for first in range(0, self.classes, CLASS_BLOCK):
            block = {f"head.{name}": tensor[first : first + CLASS_BLOCK] for name, tensor in self.rows().items()}
            yield first, functional_call(comparing, block, (features,))

    def cross_entropy(self, logits: Tensor, classes: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Mean over the batch of each photo's cross-entropy times its class's weight, float32 [].

        `logits` [batch, classes]. Not divided by the batch's weights: their mean over all photos is 1 already.
        """
        if self.class_weights is None:
            return nn.functional.cross_entropy(logits, classes, label_smoothing=label_smoothing)
        each = nn.functional.cross_entropy(logits, classes, label_smoothing=label_smoothing, reduction="none")
        return (self.class_weights[classes] * each).mean()

    def logits(self, features: Tensor) -> Tensor:
        """What a softmax makes into `scores`, float32 [batch, classes]. Raises TypeError if they are made otherwise."""
        raise TypeError(f"{type(self).__name__} has no logits; train.loss = softmax has")

    def linear_parts(self) -> tuple[Tensor, Tensor] | None:
        """Of a head with `logits`: the weights float32 [classes, dimensions] and biases [classes]. None of another."""
        return None

    def centres(self) -> tuple[Tensor, float] | None:
        """Of a head that scores by the largest cosine to any of a class's centres: the centres, unit vectors float32
        [classes, centres, dimensions], and the scale of the cosines. None of another head.
        """
        return None


class _Comparing(nn.Module):
    """`comparable` as a module's forward, which is what may be run with other rows in the place of the head's own."""

    def __init__(self, head: LossHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor) -> Tensor:
        return self.head.comparable(features)


@torch.no_grad()
def class_means(features: Tensor, classes: Tensor, before: Tensor) -> Tensor:
    """The unit vector of each class's mean unit vector, like `before`, float32 [classes, dimensions].

    `features` [photos, dimensions] and `classes` int64 [photos] are as in LossHead. A class without a mean keeps its
    row of `before`. Summed on the CPU: on a GPU the order of the additions would differ from run to run.
    """
    units = nn.functional.normalize(features.cpu().float(), dim=1)
    sums = torch.zeros(before.shape).index_add_(0, classes.cpu(), units).to(before.device)
    return torch.where(known(sums), nn.functional.normalize(sums, dim=1), before)


def known(rows: Tensor) -> Tensor:
    """Which rows of [classes, dimensions] hold anything but zeros, bool [classes, 1]."""
    return rows.any(dim=1, keepdim=True)
