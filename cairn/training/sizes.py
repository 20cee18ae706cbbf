"""How large the photos of each epoch are (progressive learning, Tan and Le 2021, arXiv:2104.00298)."""

from __future__ import annotations

import torch

from cairn.networks.embedder import Embedder
from cairn.params import Schedule


def size_of(epoch: int, schedule: Schedule, full: int) -> int:
    """Pixels of a side in `epoch`, counted from 0: each of `progressive_sizes` and then `full` for an equal run of
    epochs, where the epochs do not divide evenly one more for some.
    """
    sizes = (*schedule.progressive_sizes, full)
    return sizes[epoch * len(sizes) // schedule.epochs]


@torch.no_grad()
def check_sizes(embedder: Embedder, schedule: Schedule) -> None:
    """Show the network, in eval mode, a photo of each size before any training.

    Raises ValueError if it does not take one, or if one is not smaller than the full size.
    """
    training, full = embedder.training, embedder.config.preprocessing.size
    embedder.eval()
    for size in schedule.progressive_sizes:
        if size >= full:
            raise ValueError(f"progressive_sizes: {size} is not smaller than image_size, {full}")
        try:
            embedder.pooled(torch.zeros(1, 3, size, size))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise ValueError(f"progressive_sizes: the network cannot take photos of {size} pixels: {error}") from error
    embedder.train(training)
