"""A network laid out for training says what it said before, and is laid back as it was."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from timm.layers import set_fused_attn, use_fused_attn
from torch import nn

from cairn.networks.embedder import Embedder, make_embedder
from cairn.training.layout import FUSED, as_laid_out, lay_back, lay_out

CPU = torch.device("cpu")


def embedder(backbone: str) -> Embedder:
    torch.manual_seed(0)
    return make_embedder(backbone, "none", "auto", "linear", 16, None, 256, 10.0, "centre").eval()


def fused(network: nn.Module) -> list[bool]:
    return [getattr(module, FUSED) for module in network.modules() if hasattr(module, FUSED)]


@pytest.mark.parametrize(("backbone", "layers"), [("test_resnet", 0), ("test_vit", 6)])
def test_the_same_features_and_gradients_and_the_same_network_afterwards(backbone: str, layers: int) -> None:
    network = embedder(backbone)
    size = network.config.preprocessing.size
    images = torch.randn(3, 3, size, size)
    before = {name: value.clone() for name, value in network.state_dict().items()}

    def seen() -> tuple[torch.Tensor, list[torch.Tensor]]:
        network.zero_grad()
        found = network.features(images)
        found.square().sum().backward()
        return found.detach(), [p.grad.clone() for p in network.parameters() if p.grad is not None]

    plain, plain_gradients = seen()
    lay_out(network, CPU)
    assert fused(network) == [False] * layers
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in network.parameters() if p.ndim == 4)
    laid_out, gradients = seen()
    torch.testing.assert_close(laid_out, plain, rtol=1e-4, atol=1e-4)
    assert len(gradients) == len(plain_gradients) > 0
    for one, other in zip(gradients, plain_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-3 * other.abs().max().item())
    lay_back(network)
    assert fused(network) == [True] * layers
    assert all(p.is_contiguous() for p in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(network.features(images), plain)


def test_who_wants_no_fused_attention_has_none_afterwards_either() -> None:
    wanted = use_fused_attn()
    set_fused_attn(False)
    try:
        network = embedder("test_vit")
        lay_out(network, CPU)
        lay_back(network)
        assert fused(network) == [False] * 6
    finally:
        set_fused_attn(wanted)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_layer_that_timm_leaves_unfused_stays_so(device: str) -> None:
    """`meta` stands for any device but a CPU; from there nothing can be brought back."""
    swin = timm.create_model("swin_tiny_patch4_window7_224", embed_dim=12, depths=(1, 1, 1, 1), num_classes=0)
    both = nn.ModuleList([swin, timm.create_model("test_vit")])
    before = fused(both)
    assert before == [False] * 4 + [True] * 6
    lay_out(both, torch.device(device))
    assert fused(both) == ([False] * 10 if device == "cpu" else before)
    if device == "cpu":
        lay_back(both)
        assert fused(both) == before


def strided() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(4, 4, 1, stride=2), nn.Conv2d(4, 4, 3))


def test_convolutions_with_a_stride_compute_in_float32_and_say_what_autocast_would() -> None:
    network, images = strided(), torch.randn(2, 3, 17, 17)
    exact = network[0](images)
    seen: list[torch.dtype] = []
    lay_out(network, CPU)
    network[0].register_forward_hook(lambda _, __, said: seen.append(said.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        first = network[0](as_laid_out(images, CPU))
        network(as_laid_out(images, CPU)).float().sum().backward()
    assert seen == [torch.bfloat16] * 2
    laid_out = network[0](as_laid_out(images, CPU))
    assert torch.equal(first, laid_out.bfloat16())  # rounded once, at the end
    assert network[0].weight.grad.abs().sum() > 0
    for found in (laid_out, network[0](images)):  # without autocast nothing is rounded, but sums have another order
        torch.testing.assert_close(found, exact)


def test_a_copy_of_a_laid_out_network_computes_with_its_own_weights() -> None:
    network = strided()
    lay_out(network, CPU)
    copied = copy.deepcopy(network)
    nn.init.zeros_(network[0].weight)
    nn.init.zeros_(network[0].bias)
    images = torch.randn(2, 3, 17, 17)
    assert copied[0](images).abs().sum() > 0
    lay_back(copied)
    assert all("forward" not in vars(module) for module in copied.modules())


def test_images_are_laid_out_as_networks_are() -> None:
    images = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    found = as_laid_out(images, CPU)
    assert torch.equal(found, images)
    assert found.is_contiguous(memory_format=torch.channels_last)
