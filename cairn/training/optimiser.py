"""The optimiser of training, and its learning rates: a full one for each part, and the share of it at a step."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import torch
from timm.models import group_parameters
from torch import Tensor, nn

from cairn.networks.embedder import Embedder
from cairn.params import Schedule

DECAY, DECAY_STEPS = 0.96, 100  # the EfficientNet system's


def make_optimiser(embedder: Embedder, head: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    """The backbones at a learning rate of their own, 0 for frozen, and all else, an attention branch too, at `head_lr`;
    norms and biases are not decayed.

    Within a backbone the last layer has `backbone_lr`, and each layer before it `layer_decay` of the next one's (Clark
    et al. 2020, arXiv:2003.10555; Bao et al. 2021, arXiv:2106.08254). The first `frozen_layers` get no gradient.
    Raises ValueError if a backbone has no layer left to train, or if there is nothing at all to train.
    """
    parts: list[list[tuple[nn.Parameter, float]]] = []
    for branch in embedder.branches:
        branch.trunk.requires_grad_(schedule.backbone_lr > 0)
        parts += [_backbone_rates(branch.trunk, schedule), _at(branch.pooling, schedule.head_lr)]
        if branch.attention is not None:
            parts.append(_at(branch.attention, schedule.head_lr))
    parts += [_at(embedder.neck, schedule.head_lr), _at(head, schedule.head_lr)]
    groups: list[dict[str, object]] = []
    for number, part in enumerate(parts):
        for decayed in (True, False):
            decay = schedule.weight_decay if decayed else 0.0
            for rate, chosen in _by_rate((p, rate) for p, rate in part if (p.ndim > 1) == decayed).items():
                together = 2 * number + decayed  # clipped with what has the same number here
                groups.append(
                    {"params": chosen, "lr": rate, "full_lr": rate, "weight_decay": decay, "together": together}
                )
    if not groups and schedule.class_share == 1:
        raise ValueError(
            f"backbone_lr = 0 and neck = {embedder.config.neck} leave nothing to train, since neither the pooling nor "
            f"the loss ({type(head).__name__}) has weights: raise backbone_lr, or take another neck or loss"
        )
    # A head whose rows have an optimiser of their own may be all that learns; torch's takes no empty list of groups.
    groups = groups or [{"params": [], "full_lr": 0.0, "together": 0}]
    if schedule.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=schedule.head_lr, momentum=schedule.momentum)
    return torch.optim.Adam(groups) if schedule.optimiser == "adam" else torch.optim.AdamW(groups)


def layers_of(backbone: nn.Module) -> dict[str, int]:
    """The layer of each parameter by name, as timm counts them: 0 for the stem (with the position embeddings of a
    transformer), then block by block; what comes after the blocks belongs to the last layer, or is one more.
    """
    matcher = backbone.group_matcher(coarse=False)  # type: ignore[operator]
    return group_parameters(backbone, matcher, reverse=True)  # type: ignore[no-any-return]


def _backbone_rates(backbone: nn.Module, schedule: Schedule) -> list[tuple[nn.Parameter, float]]:
    """The trained parameters with their full rates; those of frozen layers are frozen on the way."""
    if schedule.layer_decay == 1 and schedule.frozen_layers == 0:
        return _at(backbone, schedule.backbone_lr)
    layers = layers_of(backbone)
    last = max(layers.values())
    if schedule.frozen_layers > last:
        raise ValueError(
            f"frozen_layers = {schedule.frozen_layers}: the backbone has {last + 1} layers; to freeze it, backbone_lr 0"
        )
    named = list(backbone.named_parameters())
    for name, parameter in named:
        parameter.requires_grad_(parameter.requires_grad and layers[name] >= schedule.frozen_layers)
    return [
        (parameter, schedule.backbone_lr * schedule.layer_decay ** (last - layers[name]))
        for name, parameter in named
        if parameter.requires_grad
    ]


def _at(module: nn.Module, rate: float) -> list[tuple[nn.Parameter, float]]:
    return [(parameter, rate) for parameter in module.parameters() if parameter.requires_grad]


def _by_rate(rated: Iterable[tuple[nn.Parameter, float]]) -> dict[float, list[nn.Parameter]]:
    found: dict[float, list[nn.Parameter]] = {}
    for parameter, rate in rated:
        found.setdefault(rate, []).append(parameter)
    return found


def clip_gradients(optimiser: torch.optim.Optimizer, norm: float | None) -> None:
    """Bring gradients down to a norm, if one is given: of each part's decayed parameters, and of its undecayed ones.

    Layers of one backbone count as one whatever their rates, so that `layer_decay` changes the rates alone.
    """
    for _, groups in itertools.groupby(optimiser.param_groups, key=lambda group: group["together"]):
        clip([p for group in groups for p in group["params"]], norm)


def clip(parameters: list[nn.Parameter] | list[Tensor], norm: float | None) -> None:
    """Bring the gradients of these together down to a norm, if one is given."""
    if norm is not None:
        nn.utils.clip_grad_norm_(parameters, norm)


def set_rates(optimiser: torch.optim.Optimizer, schedule: Schedule, step: int, steps_an_epoch: int) -> float:
    """Give every group its learning rate at `step`, counted over all epochs; the share of the full one that it is."""
    warmup = round(schedule.warmup_epochs * steps_an_epoch)
    share = rate_share(schedule.course, step, schedule.epochs * steps_an_epoch, warmup)
    for group in optimiser.param_groups:
        group["lr"] = share * group["full_lr"]
    return share


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
