"""The triplet loss against loops over every pair, and the running means against a plain average."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.losses.triplet import UNSEEN, Triplet


def by_loops(features: np.ndarray, classes: np.ndarray) -> float:
    losses = []
    for a, anchor in enumerate(features):
        distances = [math.dist(anchor, other) for other in features]
        same = [d for b, d in enumerate(distances) if classes[b] == classes[a] and b != a]
        others = [d for b, d in enumerate(distances) if classes[b] != classes[a]]
        if same and others:
            losses.append(math.log(1 + math.exp(max(same) - min(others))))
    return float(np.mean(losses)) if losses else 0.0


@settings(max_examples=50)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(0, 2**32 - 1))
def test_it_is_the_published_formula_with_anchors_that_lack_a_partner_left_out(classes: list[int], seed: int) -> None:
    features = 2 * torch.randn(len(classes), 3, generator=torch.Generator().manual_seed(seed))
    loss = Triplet(3, 5, 0.5)(features.requires_grad_(), torch.tensor(classes))
    wanted = by_loops(features.detach().double().numpy(), np.array(classes))
    assert loss.item() == pytest.approx(wanted, rel=1e-3, abs=1e-6)
    loss.backward()  # even where no anchor is left
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


def test_a_case_worked_out_by_hand() -> None:
    features = torch.tensor([[0.0], [1.0], [3.0]])  # the third is alone in its class
    loss = Triplet(1, 2, 0.5)(features, torch.tensor([0, 0, 1]))
    assert loss.item() == pytest.approx((math.log(1 + math.exp(1 - 3)) + math.log(1 + math.exp(1 - 2))) / 2)


def test_the_length_of_features_counts() -> None:
    features = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    classes = torch.arange(8) % 2
    head = Triplet(3, 2, 0.5)
    assert head(3 * features, classes).item() != pytest.approx(head(features, classes).item(), rel=0.01)


def test_photos_all_alike_give_a_finite_gradient() -> None:
    features = torch.ones(40, 3, requires_grad=True)
    loss = Triplet(3, 2, 0.5)(features, torch.arange(40) % 2)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2))
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


def test_running_means_remember_in_training_only() -> None:
    rng = np.random.default_rng(0)
    head = Triplet(3, 3, memory=0.75)
    wanted = np.zeros((3, 3))
    for classes in ([0, 0, 1], [0, 1, 1], [1, 1, 1]):
        features = rng.normal(size=(3, 3)).astype(np.float32)
        head(torch.from_numpy(features), torch.tensor(classes))
        for c in set(classes):
            units = [f / np.linalg.norm(f) for f, of in zip(features, classes, strict=True) if of == c]
            new = np.mean(units, axis=0)
            wanted[c] = 0.75 * wanted[c] + 0.25 * new if wanted[c].any() else new
    np.testing.assert_allclose(head.means.numpy(), wanted, rtol=1e-5)
    head.eval()(torch.ones(3, 3), torch.tensor([0, 0, 1]))
    np.testing.assert_allclose(head.means.numpy(), wanted, rtol=1e-5)


def test_scores_are_cosines_to_the_running_means_and_a_class_not_seen_never_wins() -> None:
    head = Triplet(2, 3, 0.5)
    head.start(torch.tensor([[2.0, 0.0], [0.0, 5.0]]), torch.tensor([0, 2]))
    scores = head.scores(torch.tensor([[3.0, 4.0], [-3.0, -4.0]]))
    torch.testing.assert_close(scores, torch.tensor([[0.6, UNSEEN, 0.8], [-0.6, UNSEEN, -0.8]]))


def test_only_the_means_are_saved() -> None:
    assert list(Triplet(2, 3, 0.5).state_dict()) == ["means"]
