"""Where networks run: on a GPU where there is one, each of several processes on its own."""

from __future__ import annotations

import torch
from torch import nn


def best_device() -> torch.device:
    """The process's own GPU (see cairn.processes), or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Where a network is run: bf16 casts what may be, fp32 nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def move(network: nn.Module, device: torch.device) -> None:
    """Move a network to a device, laid out so that convolutions are fast: a pixel's channels side by side."""
    network.to(device).to(memory_format=torch.channels_last)
