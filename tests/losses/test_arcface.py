"""ArcFace against the formula with real angles, and where its margin turns over."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cairn.losses.arcface import ArcFace, with_margin


def by_angles(features: np.ndarray, weights: np.ndarray, classes: np.ndarray, scale: float, margin: float) -> float:
    """The loss written with arccos, one photo at a time, in double precision."""
    total = 0.0
    for vector, true in zip(features, classes, strict=True):
        logits = []
        for number, weight in enumerate(weights):
            cosine = float(vector @ weight / np.linalg.norm(vector) / np.linalg.norm(weight))
            angle = math.acos(max(-1.0, min(1.0, cosine)))
            if number == true:
                rising = angle > math.pi - margin
                cosine = cosine - margin * math.sin(margin) if rising else math.cos(angle + margin)
            logits.append(scale * cosine)
        top = max(logits)
        total += top + math.log(sum(math.exp(x - top) for x in logits)) - logits[true]
    return total / len(classes)


@pytest.mark.parametrize(("scale", "margin"), [(30.0, 0.5), (45.0, 0.3), (16.0, 0.0), (8.0, 1.4)])
def test_it_is_the_published_formula(scale: float, margin: float) -> None:
    torch.manual_seed(0)
    head = ArcFace(dimensions=6, classes=5, scale=scale, margin=margin)
    features, classes = 4 * torch.randn(40, 6), torch.randint(0, 5, (40,))
    weights = head.weight.detach().double().numpy()
    wanted = by_angles(features.double().numpy(), weights, classes.numpy(), scale=scale, margin=margin)
    assert head(features, classes).item() == pytest.approx(wanted, rel=1e-4)


def test_scores_are_cosines_whatever_the_length_of_the_features() -> None:
    torch.manual_seed(0)
    head, features = ArcFace(6, 5, 30.0, 0.5), torch.randn(10, 6)
    wanted = torch.nn.functional.cosine_similarity(features[:, None], head.weight[None], dim=2)
    torch.testing.assert_close(head.scores(features), wanted)
    torch.testing.assert_close(head.scores(7 * features), wanted)


def test_the_start_is_the_class_means() -> None:
    features, classes = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)), np.array([0, 1, 2] * 3)
    head = ArcFace(4, 3, 30.0, 0.3)
    head.start(features, torch.from_numpy(classes))
    units = features.numpy() / np.linalg.norm(features.numpy(), axis=1, keepdims=True)
    for number in range(3):
        mean = units[classes == number].mean(axis=0)
        np.testing.assert_allclose(head.weight[number].detach().numpy(), mean / np.linalg.norm(mean), rtol=1e-5)


def test_the_margin_makes_the_loss_larger_and_the_gradient_finite_at_the_poles() -> None:
    weight = torch.eye(2, 4)
    for vector in (weight[0], -weight[0]):
        plain, strict = (ArcFace(4, 2, 4.0, margin) for margin in (0.0, 0.5))
        for head in (plain, strict):
            head.weight.data = weight.clone()
        feature = vector[None].clone().requires_grad_()
        loss = strict(feature, torch.tensor([0]))
        assert loss.item() > plain(vector[None], torch.tensor([0])).item()
        loss.backward()
        assert feature.grad is not None
        assert torch.isfinite(feature.grad).all()


@given(st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=2, unique=True), st.floats(0, 1.5))
def test_the_margin_keeps_the_order_of_the_true_cosines_and_leaves_the_others(
    values: list[float], margin: float
) -> None:
    low, high = sorted(values)
    cosines = torch.tensor([[low, 0.25], [high, 0.25]])
    shifted = with_margin(cosines, torch.tensor([0, 0]), margin)
    assert shifted[0, 0] <= shifted[1, 0] + 1e-5
    assert (shifted[:, 0] <= cosines[:, 0] + 1e-5).all()
    assert torch.equal(shifted[:, 1], cosines[:, 1])
    each = with_margin(cosines, torch.tensor([0, 0]), torch.tensor([[margin], [margin]]))
    torch.testing.assert_close(each, shifted)
