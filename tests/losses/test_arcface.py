"""ArcFace against the formula with real angles, and where its margin turns over."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cairn.losses.arcface import ArcFace


def by_angles(embeddings: np.ndarray, weights: np.ndarray, classes: np.ndarray, scale: float, margin: float) -> float:
    """The loss written with arccos, one photo at a time, in double precision."""
    total = 0.0
    for vector, true in zip(embeddings, classes, strict=True):
        logits = []
        for number, weight in enumerate(weights):
            cosine = float(vector @ weight / np.linalg.norm(weight))
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
    head = ArcFace(dimensions=6, classes=5, scale=scale, margin=margin).double()
    embeddings = torch.nn.functional.normalize(torch.randn(40, 6), dim=1)
    classes = torch.randint(0, 5, (40,))
    wanted = by_angles(
        embeddings.double().numpy(), head.weight.detach().numpy(), classes.numpy(), scale=scale, margin=margin
    )
    # The head computes cosines in single precision.
    head = head.float()
    assert head(embeddings, classes).item() == pytest.approx(wanted, rel=1e-4)


def test_the_margin_makes_the_loss_larger_and_the_gradient_finite_at_the_poles() -> None:
    weight = torch.eye(2, 4)
    for vector in (weight[0], -weight[0]):
        plain, strict = (ArcFace(4, 2, 4.0, margin) for margin in (0.0, 0.5))
        for head in (plain, strict):
            head.weight.data = weight.clone()
        embedding = vector[None].clone().requires_grad_()
        loss = strict(embedding, torch.tensor([0]))
        assert loss.item() > plain(vector[None], torch.tensor([0])).item()
        loss.backward()
        assert embedding.grad is not None
        assert torch.isfinite(embedding.grad).all()
