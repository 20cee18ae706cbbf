"""A training step as training lays a network out, against the network as timm and PyTorch have it.

    python benchmarks/bench_train.py [--backbones vit_tiny_patch16_224 mobilenetv2_100] [--batch 32] [--precision bf16]

Untrained networks, random images, forward and backward pass; memory is kept between layers in both. Prints the median
seconds of each, and how much sooner the laid-out one is done.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import timm
import torch
from torch import nn

from cairn.allocation import keep_memory
from cairn.networks.backbones import default_size
from cairn.networks.device import autocast, best_device
from cairn.training.layout import as_laid_out, lay_out

BACKBONES = ("vit_tiny_patch16_224", "mobilenetv2_100", "resnet18", "resnet50", "vgg16_bn", "efficientnet_b1")


def step(network: nn.Module, images: torch.Tensor, precision: str) -> tuple[float, float]:
    """Seconds of the forward and of the backward pass."""
    start = time.perf_counter()
    with autocast(images.device, precision):
        features = network(images)
    between = time.perf_counter()
    features.float().square().sum().backward()
    if images.is_cuda:
        torch.cuda.synchronize()
    return between - start, time.perf_counter() - between


def seconds(name: str, laid_out: bool, arguments: argparse.Namespace) -> tuple[float, float]:
    """Medians over the rounds, after one that is not counted."""
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=0).train().to(best_device())
    if laid_out:
        lay_out(network, best_device())
    size = default_size(name)
    images = torch.randn(arguments.batch, 3, size, size, device=best_device())
    if laid_out:
        images = as_laid_out(images, best_device())
    found = [step(network, images, arguments.precision) for _ in range(arguments.rounds + 1)][1:]
    forward, backward = (median(times) for times in zip(*found, strict=True))
    return forward, backward


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=BACKBONES, metavar="NAME")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    keep_memory()
    torch.set_num_threads(arguments.threads)
    print(f"{'':24}{'plain: forward':>16}{'backward':>10}{'laid out: forward':>19}{'backward':>10}{'':>9}")
    for name in arguments.backbones:
        plain, quick = seconds(name, False, arguments), seconds(name, True, arguments)
        print(
            f"{name:24}{plain[0]:14.2f} s{plain[1]:8.2f} s{quick[0]:17.2f} s{quick[1]:8.2f} s"
            f"{sum(plain) / sum(quick):7.2f} x",
            flush=True,
        )


if __name__ == "__main__":
    main()
