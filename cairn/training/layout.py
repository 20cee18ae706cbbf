"""How a network is laid out while it is trained: the same numbers but for rounding, sooner."""

from __future__ import annotations

import torch
from timm.layers import use_fused_attn
from torch import nn

from cairn.networks.device import move

FUSED = "fused_attn"  # timm's own name: whether a layer calls PyTorch's attention, or multiplies matrices


def lay_out(network: nn.Module, device: torch.device) -> None:
    """Move it to the device; on a CPU, have attention be plain multiplication.

    Of PyTorch's own attention in bf16 the backward pass takes half of a small ViT's step on a CPU.
    """
    move(network, device)
    _set_fused(network, device.type != "cpu" and use_fused_attn())


def lay_back(network: nn.Module) -> None:
    """On the CPU, as networks are made and saved."""
    network.cpu().to(memory_format=torch.contiguous_format)
    _set_fused(network, use_fused_attn())


def _set_fused(network: nn.Module, fused: bool) -> None:
    for module in network.modules():
        if hasattr(module, FUSED):
            setattr(module, FUSED, fused)
