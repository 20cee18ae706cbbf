"""Losses of the two branches against formulas written out one photo at a time, and where the mixed one cannot fall."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from cairn.losses.arcface import ArcFace
from cairn.losses.attention import mixed, mixed_scores, summed
from cairn.losses.partial import part_of
from cairn.losses.softmax import Softmax

GENERATOR = torch.Generator().manual_seed(0)
ATTENTION, PERCEPTION = (3 * torch.randn(7, 4, generator=GENERATOR) for _ in range(2))
CLASSES = torch.randint(0, 4, (7,), generator=GENERATOR)


def plain(classes: int) -> Softmax:
    """A head whose logits are the features."""
    head = Softmax(classes, classes, 0.0)
    head.linear.load_state_dict({"weight": torch.eye(classes), "bias": torch.zeros(classes)})
    return head


def softmax(values: list[float]) -> list[float]:
    powers = [math.exp(value) for value in values]
    return [power / sum(powers) for power in powers]


def cross_entropy(rows: list[list[float]], classes: list[int]) -> float:
    return sum(-math.log(softmax(row)[true]) for row, true in zip(rows, classes, strict=True)) / len(classes)


def test_the_published_loss_is_the_sum_of_two_cross_entropies() -> None:
    wanted = sum(cross_entropy(logits.tolist(), CLASSES.tolist()) for logits in (ATTENTION, PERCEPTION))
    assert summed(plain(4), PERCEPTION, ATTENTION, CLASSES).item() == pytest.approx(wanted, rel=1e-5)


def test_any_heads_own_loss_is_the_perception_branchs() -> None:
    torch.manual_seed(0)
    head = ArcFace(4, 4, 16.0, 0.3)
    wanted = cross_entropy(ATTENTION.tolist(), CLASSES.tolist()) + head(PERCEPTION, CLASSES).item()
    assert summed(head, PERCEPTION, ATTENTION, CLASSES).item() == pytest.approx(wanted, rel=1e-5)
    with pytest.raises(TypeError, match="ArcFace has no logits"):
        mixed(head, PERCEPTION, ATTENTION, CLASSES, 0.25, 1.0)


def test_with_a_share_of_the_classes_the_attention_branch_still_tells_all_apart() -> None:
    chosen, classes = [0, 1, 3], [0, 3, 3, 1, 0, 1, 3]
    numbers = [chosen.index(true) for true in classes]
    wanted = cross_entropy(ATTENTION.tolist(), classes) + cross_entropy(PERCEPTION[:, chosen].tolist(), numbers)
    head = plain(4)
    part = part_of(head, np.array(chosen))
    found = summed(head, PERCEPTION, ATTENTION, torch.tensor(classes), part)
    assert found.item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("mix", [False, True])
def test_class_weights_count_in_both_branches(mix: bool) -> None:
    head, weights = plain(4), torch.tensor([0.5, 1.0, 2.0, 0.0])

    def loss(rows: slice) -> float:
        given = (head, PERCEPTION[rows], ATTENTION[rows], CLASSES[rows])
        return (mixed(*given, 0.25, 1.0) if mix else summed(*given)).item()

    each = [loss(slice(row, row + 1)) for row in range(len(CLASSES))]
    head.class_weights = weights
    wanted = sum(weights[true].item() * one for true, one in zip(CLASSES, each, strict=True)) / len(CLASSES)
    assert loss(slice(None)) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(("alpha", "beta"), [(0.25, 1.0), (0.0, 1.0), (2.0, 0.5)])
def test_the_mixed_loss_takes_softmax_twice(alpha: float, beta: float) -> None:
    scores = [
        [alpha * a + beta * p for a, p in zip(softmax(attention), softmax(perception), strict=True)]
        for attention, perception in zip(ATTENTION.tolist(), PERCEPTION.tolist(), strict=True)
    ]
    torch.testing.assert_close(mixed_scores(ATTENTION, PERCEPTION, alpha, beta), torch.tensor(scores))
    wanted = cross_entropy(scores, CLASSES.tolist())
    assert mixed(plain(4), PERCEPTION, ATTENTION, CLASSES, alpha, beta).item() == pytest.approx(wanted, rel=1e-5)


def test_certain_and_right_is_no_loss_as_published_but_2_13_when_mixed_over_27_classes() -> None:
    sure, classes = 100.0 * torch.eye(27), torch.arange(27)
    assert summed(plain(27), sure, sure, classes).item() == pytest.approx(0, abs=1e-6)
    floor = math.log(1 + 26 * math.exp(-1.25))
    assert floor == pytest.approx(2.13406, abs=1e-5)
    assert mixed(plain(27), sure, sure, classes, 0.25, 1.0).item() == pytest.approx(floor, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_branches_learn_from_either_loss(dtype: torch.dtype) -> None:
    def gradients(mix: bool) -> list[Tensor]:
        given = [logits.to(dtype).requires_grad_() for logits in (PERCEPTION, ATTENTION)]
        head = plain(4)
        loss = mixed(head, *given, CLASSES, 0.25, 1.0) if mix else summed(head, *given, CLASSES)
        assert loss.dtype == torch.float32
        return list(torch.autograd.grad(loss, given))

    assert all(gradient.abs().sum() > 0 for mix in (False, True) for gradient in gradients(mix))
