"""The learning rate over time: linear warm-up, then a cosine to zero."""

from __future__ import annotations

import math


def warmup_cosine(step: int, steps: int, warmup: int) -> float:
    """The share of the full learning rate at `step` of `steps`, the first `warmup` of which rise linearly.

    Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts.
    """
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
