"""Where networks run: on a GPU where there is one, each of several processes on its own."""

from __future__ import annotations

import torch


def best_device() -> torch.device:
    """The process's own GPU (see cairn.processes), or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
