"""Part of the classes at a time: a step compares its photos with their own classes and a random share of the others.

Partial FC (An et al. 2021, arXiv:2010.05222; An et al. 2022, arXiv:2203.15565). Any head will do whose rows (weights,
biases, margins, weights of classes) belong to one class each: its loss over some classes is that of a head which has
no others. Label smoothing is spread over the classes that are there.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from cairn.losses.base import LossHead


class Part(NamedTuple):
    """The rows of a head that one step works on."""

    chosen: Tensor  # class numbers, rising, int64 [chosen]
    rows: dict[str, nn.Parameter]  # copies of the head's parameters at them, [chosen, ...]


def draw_classes(present: NDArray[np.int64], classes: int, share: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Of `classes` class numbers all that are `present`, and random others up to `share` of all: rising, int64.

    Where more than that share is present, no other comes with them.
    """
    own = np.unique(present)
    others = max(0, math.ceil(share * classes) - len(own))
    rest = np.delete(np.arange(classes, dtype=np.int64), own)
    return np.union1d(own, rng.choice(rest, others, replace=False))


def part_of(head: LossHead, chosen: NDArray[np.int64]) -> Part:
    """Copies of the rows of the `chosen` classes, as parameters that get gradients."""
    at = torch.from_numpy(chosen).to(next(head.parameters()).device)
    return Part(at, {name: nn.Parameter(rows.detach()[at]) for name, rows in head.named_parameters()})


def partial_loss(head: LossHead, part: Part, features: Tensor, classes: Tensor) -> Tensor:
    """The loss of `head` over the classes of `part` alone, whose rows get the gradient; shapes as in LossHead.

    Every one of `classes` must be among them.
    """
    buffers = {name: rows[part.chosen] for name, rows in head.named_buffers()}
    here = torch.searchsorted(part.chosen, classes)
    return functional_call(head, {**part.rows, **buffers}, (features, here))  # type: ignore[no-any-return]
