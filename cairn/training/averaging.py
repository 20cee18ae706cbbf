"""The running mean of a network's weights, which is often better than the weights of any one step."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of `model`'s weights and buffers (Tarvainen and Valpola 2017, arXiv:1703.01780).

    After each step, `update_parameters(model)` makes every average a = d a + (1 - d) weight; the averaged network is
    `module`, and `state_dict()` holds all that is needed to go on. The first update takes the weights as they are, with
    d = 0. Of later ones d is the lesser of `decay` and (1 + n) / (10 + n), n being the updates before, so that a short
    run is not ruled by its first weights (TensorFlow's ExponentialMovingAverage with `num_updates`).
    """

    def update(averages: Sequence[Tensor], weights: Sequence[Tensor], updates: Tensor | int) -> None:
        step = get_ema_multi_avg_fn(decay_at(decay, int(updates)))  # type: ignore[no-untyped-call]
        step(averages, weights, updates)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)


def decay_at(decay: float, updates: int) -> float:
    """d as `averaged` says, after so many updates, of which there is at least one."""
    return min(decay, (1 + updates) / (10 + updates))
