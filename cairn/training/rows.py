"""Optimiser and running mean of a head of which each step sees only some classes: what is not seen is not touched.

For a class that a step leaves out, the step did not take place: its weights, their decay, its momentum and its count
of steps stay. So each row takes the course of an ordinary optimiser that was given the row's own steps alone.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor

from cairn.losses.base import CLASS_BLOCK, LossHead
from cairn.losses.partial import Part
from cairn.params import Schedule
from cairn.training.averaging import decay_at
from cairn.training.optimiser import clip

BETAS, EPSILON = (0.9, 0.999), 1e-8  # torch's own

State = dict[str, dict[str, Tensor]]


class RowOptimiser:
    """SGD with momentum, Adam or AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) on rows of a head.

    `state` holds, for each parameter of the head, what the optimiser keeps of every row; `steps`, int32 [classes], how
    often each class was stepped, from which Adam corrects its bias.
    """

    def __init__(self, head: LossHead, schedule: Schedule) -> None:
        self.head, self.schedule = head, schedule
        kinds = ("momentum",) if schedule.optimiser == "sgd" else ("mean", "square")
        self.state: State = {
            name: {kind: torch.zeros_like(rows, requires_grad=False) for kind in kinds}
            for name, rows in head.named_parameters()
        }
        self.steps = torch.zeros(head.classes, dtype=torch.int32, device=next(head.parameters()).device)

    @torch.no_grad()
    def step(self, part: Part, rate_share: float) -> None:
        """Step the rows of `part` by their gradients, clipped as `clip_gradients` does, and put them into the head."""
        self.steps[part.chosen] += 1
        for decayed in (True, False):
            clip([rows for rows in part.rows.values() if (rows.ndim > 1) == decayed], self.schedule.clip_norm)
        whole = dict(self.head.named_parameters())
        for name, rows in part.rows.items():
            if rows.grad is None:
                continue
            kept = {kind: every[part.chosen] for kind, every in self.state[name].items()}
            decay = self.schedule.weight_decay if rows.ndim > 1 else 0.0
            rate = rate_share * self.schedule.head_lr
            if self.schedule.optimiser == "sgd":
                _sgd(rows, rows.grad, kept, rate, decay, self.schedule.momentum)
            else:
                steps = self.steps[part.chosen].view(-1, *[1] * (rows.ndim - 1))
                _adam(rows, rows.grad, kept, steps, rate, decay, apart=self.schedule.optimiser == "adamw")
            whole[name].detach()[part.chosen] = rows.detach()
            for kind, every in self.state[name].items():
                every[part.chosen] = kept[kind]

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on."""
        return {"steps": self.steps, "state": self.state}

    def load_state_dict(self, found: dict[str, Any]) -> None:
        """Take what `state_dict` gave."""
        self.steps.copy_(found["steps"])
        for name, kinds in self.state.items():
            for kind, every in kinds.items():
                every.copy_(found["state"][name][kind])


def _sgd(rows: Tensor, gradient: Tensor, kept: dict[str, Tensor], rate: float, decay: float, momentum: float) -> None:
    """v = momentum v + g + decay w; w = w - rate v, as torch.optim.SGD."""
    kept["momentum"].mul_(momentum).add_(gradient).add_(rows, alpha=decay)
    rows.sub_(kept["momentum"], alpha=rate)


def _adam(
    rows: Tensor, gradient: Tensor, kept: dict[str, Tensor], steps: Tensor, rate: float, decay: float, apart: bool
) -> None:
    """Adam, corrected for each row's own `steps` (Kingma and Ba 2015, arXiv:1412.6980). `apart`: AdamW's decay."""
    if apart:
        rows.mul_(1 - rate * decay)
    elif decay > 0:
        gradient = gradient.add(rows, alpha=decay)
    kept["mean"].lerp_(gradient, 1 - BETAS[0])
    kept["square"].mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
    bias_mean, bias_square = (1 - torch.pow(beta, steps.double()) for beta in BETAS)
    size = (kept["square"] / bias_square.float()).sqrt_().add_(EPSILON)
    rows.sub_(size.reciprocal_().mul_(kept["mean"]).mul_((rate / bias_mean).float()))


class RowAverage:
    """The running mean of a head's rows: the same as `averaged` makes of them, but for rounding.

    A row that was not touched has had one weight w since its last update, so that its mean a has come nearer to it by
    the decays d of the steps since then: w + (a - w) d1 d2 ... That is made up for when the row is next touched, or
    asked for. `head` holds the means, `taken` the logarithm of d1 d2 ... up to each row's last update, float64
    [classes].
    """

    def __init__(self, head: LossHead, decay: float) -> None:
        self.head, self.decay = copy.deepcopy(head), decay
        self.updates, self.now = 0, 0.0
        self.taken = torch.zeros(head.classes, dtype=torch.float64, device=next(head.parameters()).device)

    @torch.no_grad()
    def catch_up(self, head: LossHead, chosen: Tensor) -> None:
        """Bring the means of the `chosen` classes up to now. To be called before a step changes their weights."""
        left = (self.now - self.taken[chosen]).exp()
        self.taken[chosen] = self.now
        for mean, weight in zip(self.head.parameters(), head.parameters(), strict=True):
            share = left.view(-1, *[1] * (mean.ndim - 1)).float()
            now = weight[chosen]
            mean[chosen] = now + (mean[chosen] - now) * share

    @torch.no_grad()
    def update(self, head: LossHead, chosen: Tensor) -> None:
        """Take in the weights of the `chosen` classes after a step; the others have not changed."""
        d = decay_at(self.decay, self.updates) if self.updates > 0 else 0.0
        for mean, weight in zip(self.head.parameters(), head.parameters(), strict=True):
            mean[chosen] = weight[chosen] if d == 0 else torch.lerp(weight[chosen], mean[chosen], d)
        if self.updates > 0:  # before, all means are the weights
            self.now += math.log(d)
        self.taken[chosen] = self.now
        self.updates += 1

    def finish(self, head: LossHead) -> None:
        """Bring all means up to now."""
        for first in range(0, head.classes, CLASS_BLOCK):
            last = min(first + CLASS_BLOCK, head.classes)
            self.catch_up(head, torch.arange(first, last, device=self.taken.device))

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on."""
        return {"head": self.head.state_dict(), "updates": self.updates, "now": self.now, "taken": self.taken}

    def load_state_dict(self, found: dict[str, Any]) -> None:
        """Take what `state_dict` gave."""
        self.head.load_state_dict(found["head"])
        self.updates, self.now = found["updates"], found["now"]
        self.taken.copy_(found["taken"])
