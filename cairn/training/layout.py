"""How a network is laid out while it is trained: the same numbers but for rounding, sooner."""

from __future__ import annotations

from types import MethodType

import torch
from torch import Tensor, nn

from cairn.networks.device import move

FUSED = "fused_attn"  # timm's own name: whether a layer calls PyTorch's attention, or multiplies matrices
TURNED_OFF = "fused_attn_turned_off"  # by us, in a layer that had it on
FORWARD = "forward"


def lay_out(network: nn.Module, device: torch.device) -> None:
    """Move it to the device; on a CPU, have attention be plain multiplication, and convolutions with a stride be FP32.

    Of PyTorch's own attention in bf16 the backward pass takes half of a small ViT's step on a CPU; that of a
    convolution with a stride takes up to forty times as long as in FP32.
    """
    move(network, device)
    if device.type != "cpu":
        return
    for layer in network.modules():
        if getattr(layer, FUSED, False):
            setattr(layer, FUSED, False)
            setattr(layer, TURNED_OFF, True)
    for convolution in _strided(network):
        setattr(convolution, FORWARD, MethodType(_in_float32, convolution))


def lay_back(network: nn.Module) -> None:
    """On the CPU, as networks are made and saved."""
    network.cpu().to(memory_format=torch.contiguous_format)
    for layer in network.modules():
        if vars(layer).pop(TURNED_OFF, False):
            setattr(layer, FUSED, True)
    for convolution in _strided(network):
        vars(convolution).pop(FORWARD, None)


def as_laid_out(images: Tensor, device: torch.device) -> Tensor:
    """Images [batch, 3, height, width] on the device, a pixel's channels side by side as in the network.

    Otherwise the first layer's backward pass may take as long as all others on a CPU.
    """
    return images.to(device, non_blocking=True, memory_format=torch.channels_last)


def _strided(network: nn.Module) -> list[nn.Conv2d]:
    """Those of a kernel of one pixel are fast in bf16 too."""
    found = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    return [module for module in found if max(module.stride) > 1 and max(module.kernel_size) > 1]


def _in_float32(convolution: nn.Conv2d, images: Tensor) -> Tensor:
    """Its own forward pass; what comes out is what autocast would have made of it, bf16."""
    if not torch.is_autocast_enabled("cpu"):
        return type(convolution).forward(convolution, images)
    kind = torch.get_autocast_dtype("cpu")
    with torch.autocast("cpu", enabled=False):
        return type(convolution).forward(convolution, images.float()).to(kind)
