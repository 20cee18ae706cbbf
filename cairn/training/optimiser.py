"""The optimiser of training, and its learning rates: a full one for each part, and the share of it at a step."""

from __future__ import annotations

import math

import torch
from torch import nn

from cairn.networks.embedder import Embedder
from cairn.params import Schedule

DECAY, DECAY_STEPS = 0.96, 100  # the EfficientNet system's


def make_optimiser(embedder: Embedder, head: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    """The backbones at a learning rate of their own, 0 for frozen; norms and biases are not decayed."""
    rated: list[tuple[nn.Module, float]] = []
    for branch in embedder.branches:
        branch.backbone.requires_grad_(schedule.backbone_lr > 0)
        rated += [(branch.backbone, schedule.backbone_lr), (branch.pooling, schedule.head_lr)]
    groups = []
    for module, rate in (*rated, (embedder.neck, schedule.head_lr), (head, schedule.head_lr)):
        wanted = [p for p in module.parameters() if p.requires_grad]
        for decay, chosen in (
            (schedule.weight_decay, [p for p in wanted if p.ndim > 1]),
            (0.0, [p for p in wanted if p.ndim <= 1]),
        ):
            if chosen:
                groups.append({"params": chosen, "lr": rate, "full_lr": rate, "weight_decay": decay})
    if schedule.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=schedule.head_lr, momentum=schedule.momentum)
    return torch.optim.Adam(groups) if schedule.optimiser == "adam" else torch.optim.AdamW(groups)


def set_rates(optimiser: torch.optim.Optimizer, schedule: Schedule, step: int, steps_an_epoch: int) -> None:
    """Give every group its learning rate at `step`, counted over all epochs."""
    warmup = round(schedule.warmup_epochs * steps_an_epoch)
    share = rate_share(schedule.course, step, schedule.epochs * steps_an_epoch, warmup)
    for group in optimiser.param_groups:
        group["lr"] = share * group["full_lr"]


def rate_share(course: str, step: int, steps: int, warmup: int) -> float:
    """The share of the full learning rate at `step` of `steps`, the first `warmup` of which rise linearly.

    Then: cosine falls to zero (Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts), constant stays, and
    exponential is multiplied by DECAY over every DECAY_STEPS steps, smoothly.
    """
    if step < warmup:
        return (step + 1) / warmup
    if course == "constant":
        return 1.0
    if course == "exponential":
        return float(DECAY ** ((step - warmup) / DECAY_STEPS))
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
