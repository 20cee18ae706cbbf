"""Some of the classes at a time: what is drawn, and loss and gradients against the formula over just those classes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cairn.losses import LOSSES, base, softmax
from cairn.losses.base import LossHead
from cairn.losses.params import ArcFaceParams, SoftmaxParams, SubCenterParams, TripletParams
from cairn.losses.partial import draw_classes, part_of, partial_loss
from cairn.losses.subcenter import dynamic_margins

SIZES = np.array([1, 2, 3, 4, 5, 6, 7, 8])
PARAMS = {
    "arcface": ArcFaceParams(scale=16.0, margin=0.3),
    "subcenter": SubCenterParams(scale=16.0, margin_low=0.05, margin_high=0.5, centres=3),
    "softmax": SoftmaxParams(label_smoothing=0.0),
}
CHOSEN = np.array([1, 2, 5, 7])


def head_of(loss: str, weighted: bool = False) -> LossHead:
    torch.manual_seed(0)
    head = LOSSES[loss](5, SIZES, PARAMS[loss])
    if weighted:
        head.class_weights = torch.linspace(0.2, 3, len(SIZES))
    return head


def given_batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return 3 * torch.randn(6, 5), torch.tensor([1, 5, 5, 7, 1, 1])


Rows = dict[str, np.ndarray]  # a head's parameters, float64


def rows_of(head: LossHead) -> Rows:
    return {name: rows.detach().double().numpy().copy() for name, rows in head.named_parameters()}


def logit(loss: str, rows: Rows, feature: np.ndarray, number: int, is_true: bool) -> float:
    """Of one class for one photo, with the margin on the true one."""
    if loss == "softmax":
        return float(rows["linear.weight"][number] @ feature + rows["linear.bias"][number])
    centres = np.atleast_2d(rows["weight"][number])
    cosine = max(float(centre @ feature) / math.hypot(*centre) / math.hypot(*feature) for centre in centres)
    margin = 0.3 if loss == "arcface" else float(dynamic_margins(SIZES, 0.05, 0.5)[number])
    if is_true:
        rising = math.acos(cosine) > math.pi - margin
        cosine = cosine - margin * math.sin(margin) if rising else math.cos(math.acos(cosine) + margin)
    return 16 * cosine


def by_hand(loss: str, rows: Rows, features: np.ndarray, classes: np.ndarray, weighted: bool = False) -> float:
    """The mean cross-entropy over the chosen classes, one photo at a time, in double precision."""
    total = 0.0
    for feature, true in zip(features, classes.tolist(), strict=True):
        logits = {number: logit(loss, rows, feature, number, number == true) for number in CHOSEN.tolist()}
        weight = float(np.linspace(0.2, 3, len(SIZES))[true]) if weighted else 1.0
        total += weight * (math.log(sum(math.exp(value) for value in logits.values())) - logits[true])
    return total / len(classes)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", PARAMS)
def test_the_loss_is_the_formula_over_the_chosen_classes(loss: str, weighted: bool) -> None:
    head, (features, classes) = head_of(loss, weighted), given_batch()
    wanted = by_hand(loss, rows_of(head), features.double().numpy(), classes.numpy(), weighted)
    got = partial_loss(head, part_of(head, CHOSEN), features, classes)
    assert got.item() == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("loss", PARAMS)
def test_gradients_are_the_formulas_slopes(loss: str) -> None:
    head, (features, classes) = head_of(loss), given_batch()
    part, features = part_of(head, CHOSEN), features.requires_grad_()
    partial_loss(head, part, features, classes).backward()
    rows, given = rows_of(head), features.detach().double().numpy()

    def slope(array: np.ndarray, at: tuple[int, ...]) -> float:
        values, kept = [], array[at]
        for change in (1e-5, -1e-5):
            array[at] = kept + change
            values.append(by_hand(loss, rows, given, classes.numpy()))
        array[at] = kept
        return (values[0] - values[1]) / 2e-5

    assert features.grad is not None
    for at in np.ndindex(*given.shape):
        assert features.grad[at].item() == pytest.approx(slope(given, at), abs=1e-4)
    for name, copies in part.rows.items():
        assert copies.grad is not None
        for at in np.ndindex(*copies.shape):
            wanted = slope(rows[name], (CHOSEN[at[0]], *at[1:]))
            assert copies.grad[at].item() == pytest.approx(wanted, abs=1e-4)
    assert all(rows.grad is None for rows in head.parameters())


@pytest.mark.parametrize("loss", PARAMS)
def test_with_all_classes_it_is_the_whole_loss_to_the_bit(loss: str) -> None:
    head, (features, classes) = head_of(loss, weighted=True), given_batch()
    features.requires_grad_()
    whole = head(features, classes)
    part = part_of(head, np.arange(len(SIZES)))
    partial = partial_loss(head, part, features, classes)
    assert torch.equal(whole, partial)
    wanted = torch.autograd.grad(whole, [features, *head.parameters()])
    got = torch.autograd.grad(partial, [features, *part.rows.values()])
    assert all(torch.equal(a, b) for a, b in zip(wanted, got, strict=True))


@given(st.lists(st.integers(0, 99), min_size=1, max_size=40), st.floats(0.001, 1), st.integers(0, 2**32 - 1))
def test_own_classes_are_always_drawn_and_others_fill_the_share(own: list[int], share: float, seed: int) -> None:
    drawn = draw_classes(np.array(own), 100, share, np.random.default_rng(seed))
    assert set(own) <= set(drawn.tolist()) <= set(range(100))
    assert (np.diff(drawn) > 0).all()
    assert len(drawn) == max(len(set(own)), math.ceil(share * 100))
    again = draw_classes(np.array(own), 100, share, np.random.default_rng(seed))
    assert np.array_equal(drawn, again)


def test_others_are_drawn_alike_often() -> None:
    rng, own = np.random.default_rng(0), np.array([3, 3, 17])
    counts = np.bincount(np.concatenate([draw_classes(own, 40, 0.25, rng) for _ in range(4000)]), minlength=40)
    assert counts[3] == counts[17] == 4000
    others = np.delete(counts, [3, 17]) / 4000
    np.testing.assert_allclose(others, 8 / 38, atol=0.03)  # four deviations of a mean of 4,000 draws


@pytest.mark.parametrize("loss", [*PARAMS, "triplet"])
def test_the_best_class_is_the_same_a_block_at_a_time(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    sizes = np.full(50, 4)
    head = LOSSES[loss](6, sizes, PARAMS.get(loss, TripletParams(memory=0.5))).eval()
    head.start(torch.randn(200, 6), torch.arange(200) % 47)  # three classes of the triplet's are not known yet
    features = 2 * torch.randn(30, 6)
    whole = head.scores(features).max(dim=1)
    for block in (7, 49, 50):
        for module in (base, softmax):
            monkeypatch.setattr(module, "CLASS_BLOCK", block)
        scores, best = head.best(features)
        assert torch.equal(best, whole.indices)
        torch.testing.assert_close(scores, whole.values)
