"""Rows with an optimiser and a running mean of their own: torch's on all rows, and nothing on rows left out."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cairn.losses import LOSSES
from cairn.losses.base import LossHead
from cairn.losses.params import SoftmaxParams, SubCenterParams
from cairn.losses.partial import draw_classes, part_of, partial_loss
from cairn.params import Schedule, load_params
from cairn.training.averaging import averaged
from cairn.training.rows import RowAverage, RowOptimiser

SCHEDULE = load_params(Path(__file__).parents[2] / "params.yaml").train.scratch
SIZES = np.arange(1, 21)
PARAMS = {
    "subcenter": SubCenterParams(scale=8.0, margin_low=0.1, margin_high=0.4, centres=2),
    "softmax": SoftmaxParams(label_smoothing=0.1),
}


def head_of(loss: str) -> LossHead:
    torch.manual_seed(0)
    return LOSSES[loss](4, SIZES, PARAMS[loss])


def schedule(**changes: Any) -> Schedule:
    return SCHEDULE.model_copy(update={"head_lr": 0.05, "weight_decay": 0.1, **changes})


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(100 + step)
    return 4 * torch.randn(8, 4), torch.randint(0, len(SIZES), (8,))


def torchs(head: LossHead, how: Schedule) -> torch.optim.Optimizer:
    groups = [
        {"params": [p for p in head.parameters() if (p.ndim > 1) == decayed], "weight_decay": 0.1 * decayed}
        for decayed in (True, False)
    ]
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    if how.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=how.head_lr, momentum=how.momentum)
    return kinds[how.optimiser](groups, lr=how.head_lr)


def step_rows(head: LossHead, rows: RowOptimiser, chosen: np.ndarray, step: int, share: float = 1.0) -> None:
    features, classes = batch(step)
    part = part_of(head, chosen)
    partial_loss(head, part, features, classes).backward()
    rows.step(part, share)


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("loss", PARAMS)
def test_with_all_rows_it_is_torchs_optimiser(loss: str, optimiser: str) -> None:
    how = schedule(optimiser=optimiser)
    head, other = head_of(loss), head_of(loss)
    rows, plain = RowOptimiser(head, how), torchs(other, how)
    for step in range(40):
        share = (step + 1) / 40
        step_rows(head, rows, np.arange(len(SIZES)), step, share)
        plain.zero_grad()
        other(*batch(step)).backward()
        for group in plain.param_groups:
            group["lr"] = share * how.head_lr
            torch.nn.utils.clip_grad_norm_(group["params"], 5.0)
        plain.step()
    for got, wanted in zip(head.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw"])
def test_a_row_takes_the_course_of_an_optimiser_with_its_own_steps_alone(optimiser: str) -> None:
    how = schedule(optimiser=optimiser)
    head = head_of("subcenter")
    rows, rng = RowOptimiser(head, how), np.random.default_rng(0)
    watched = torch.nn.Parameter(head.weight.detach()[7].clone())
    plain = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[optimiser](
        [watched], lr=how.head_lr, weight_decay=0.1, **({"momentum": how.momentum} if optimiser == "sgd" else {})
    )
    seen = 0
    for step in range(60):
        features, classes = batch(step)
        classes = classes.where(classes != 7, 8) if step % 3 else classes  # 7 is left out of most steps
        chosen = np.setdiff1d(draw_classes(classes.numpy(), len(SIZES), 0.6, rng), [] if step % 3 == 0 else [7])
        part = part_of(head, chosen)
        partial_loss(head, part, features, classes).backward()
        before = head.weight.detach()[7].clone()
        rows.step(part, 1.0)
        if 7 in chosen:
            watched.grad = part.rows["weight"].grad[int(np.flatnonzero(chosen == 7)[0])]  # type: ignore[index]
            plain.step()
            seen += 1
        else:
            assert torch.equal(head.weight[7], before)
        torch.testing.assert_close(head.weight[7], watched, rtol=1e-4, atol=1e-5)
    assert 5 < seen < 30
    assert rows.steps[7] == seen


def test_gradients_are_clipped() -> None:
    head = head_of("softmax")
    rows = RowOptimiser(head, schedule(optimiser="sgd", momentum=0.0, weight_decay=0.0, head_lr=1.0))
    features, classes = batch(0)
    part, before = part_of(head, np.arange(len(SIZES))), head.linear.weight.detach().clone()
    (1e4 * partial_loss(head, part, features, classes)).backward()
    rows.step(part, 1.0)
    assert (head.linear.weight - before).norm().item() == pytest.approx(5.0, rel=1e-4)


@pytest.mark.parametrize("decay", [0.15, 0.9, 0.999])
def test_the_running_mean_is_that_of_all_rows_though_few_are_touched(decay: float) -> None:
    head = head_of("subcenter")
    every, some = averaged(head, decay), RowAverage(head, decay)
    rows, rng = RowOptimiser(head, schedule()), np.random.default_rng(0)
    for step in range(50):
        _, classes = batch(step)
        chosen = draw_classes(classes.numpy(), len(SIZES), 0.5, rng)
        some.catch_up(head, torch.from_numpy(chosen))
        step_rows(head, rows, chosen, step)
        some.update(head, torch.from_numpy(chosen))
        every.update_parameters(head)
        if step % 20 == 19:
            some.finish(head)
            torch.testing.assert_close(some.head.weight, every.module.weight, rtol=1e-5, atol=1e-6)
    some.finish(head)
    torch.testing.assert_close(some.head.weight, every.module.weight, rtol=1e-5, atol=1e-6)


def test_both_go_on_to_the_same_bytes_from_what_they_saved() -> None:
    def run(head: LossHead, rows: RowOptimiser, mean: RowAverage, steps: range) -> None:
        for step in steps:
            chosen = draw_classes(batch(step)[1].numpy(), len(SIZES), 0.5, np.random.default_rng(step))
            mean.catch_up(head, torch.from_numpy(chosen))
            step_rows(head, rows, chosen, step)
            mean.update(head, torch.from_numpy(chosen))

    def fresh() -> tuple[LossHead, RowOptimiser, RowAverage]:
        head = head_of("subcenter")
        return head, RowOptimiser(head, schedule()), RowAverage(head, 0.9)

    whole, first, second = fresh(), fresh(), fresh()
    run(*whole, range(20))
    run(*first, range(9))
    for part, saved in zip(second, first, strict=True):
        part.load_state_dict(saved.state_dict())
    run(*second, range(9, 20))
    second[2].finish(second[0])
    whole[2].finish(whole[0])
    for a, b in itertools.chain(
        zip(whole[0].parameters(), second[0].parameters(), strict=True),
        zip(whole[2].head.parameters(), second[2].head.parameters(), strict=True),
    ):
        assert torch.equal(a, b)
