"""Sub-center ArcFace against the formula with real angles, and the margins against ones worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cairn.losses.arcface import ArcFace
from cairn.losses.subcenter import SPREAD, SubCenterArcFace, dynamic_margins

SIZES = np.array([1, 16, 81])


def by_angles(features: np.ndarray, weights: np.ndarray, classes: np.ndarray, scale: float) -> float:
    """The loss with margins .05 to .5, one photo and one centre at a time, in double precision."""
    margins = [0.5, 0.05 + 0.45 * (1 / 2 - 1 / 3) / (1 - 1 / 3), 0.05]  # t is 1, 1/2, 1/3
    total = 0.0
    for vector, true in zip(features, classes, strict=True):
        logits = []
        for number, centres in enumerate(weights):
            cosine = max(float(vector @ c / np.linalg.norm(vector) / np.linalg.norm(c)) for c in centres)
            if number == true:
                angle, margin = math.acos(max(-1.0, min(1.0, cosine))), margins[number]
                rising = angle > math.pi - margin
                cosine = cosine - margin * math.sin(margin) if rising else math.cos(angle + margin)
            logits.append(scale * cosine)
        top = max(logits)
        total += top + math.log(sum(math.exp(x - top) for x in logits)) - logits[true]
    return total / len(classes)


@pytest.mark.parametrize("centres", [1, 3])
def test_it_is_the_published_formula(centres: int) -> None:
    torch.manual_seed(0)
    head = SubCenterArcFace(5, SIZES, 30.0, 0.05, 0.5, centres)
    features, classes = 4 * torch.randn(40, 5), torch.arange(40) % 3
    weights = head.weight.detach().double().numpy()
    assert weights.shape == (3, centres, 5)
    wanted = by_angles(features.double().numpy(), weights, classes.numpy(), 30.0)
    assert head(features, classes).item() == pytest.approx(wanted, rel=1e-4)


def test_with_one_centre_and_one_margin_it_is_arcface() -> None:
    torch.manual_seed(0)
    plain, head = ArcFace(5, 3, 20.0, 0.3), SubCenterArcFace(5, SIZES, 20.0, 0.3, 0.3, 1)
    head.weight.data = plain.weight.data[:, None].clone()
    features, classes = torch.randn(30, 5), torch.arange(30) % 3
    torch.testing.assert_close(head(features, classes), plain(features, classes))
    torch.testing.assert_close(head.scores(features), plain.scores(features))


def test_only_the_nearest_centre_of_the_class_is_pulled() -> None:
    head = SubCenterArcFace(4, np.array([5, 5]), 4.0, 0.1, 0.4, 2)
    head.weight.data = torch.eye(4).view(2, 2, 4)
    loss = head(torch.tensor([[1.0, 0.2, 0.0, 0.0]]), torch.tensor([0]))
    loss.backward()
    assert head.weight.grad is not None
    assert head.weight.grad[0, 0].norm() > 0
    assert head.weight.grad[0, 1].norm() == 0


def test_centres_start_near_the_mean_and_apart() -> None:
    torch.manual_seed(0)
    head = SubCenterArcFace(4, SIZES, 4.0, 0.1, 0.4, 3)
    features, classes = torch.randn(30, 4), torch.arange(30) % 3
    head.start(features, classes)
    units = torch.nn.functional.normalize(features, dim=1)
    for number, centres in enumerate(head.weight.detach()):
        mean = torch.nn.functional.normalize(units[classes == number].sum(dim=0), dim=0)
        assert (centres @ mean > math.sqrt(1 - SPREAD**2) - 1e-6).all()
        assert torch.pdist(centres).min() > 0.01


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=30), st.floats(0, 1), st.floats(0, 1))
def test_margins_run_from_low_for_the_largest_class_to_high_for_the_smallest(
    sizes: list[int], low: float, extra: float
) -> None:
    margins = dynamic_margins(np.array(sizes), low, low + extra)
    assert margins[np.argmax(sizes)] == pytest.approx(low)
    assert margins[np.argmin(sizes)] == pytest.approx(low + extra if len(set(sizes)) > 1 else low)
    order = np.argsort(sizes)
    assert (np.diff(margins[order]) <= 1e-12).all()


def test_classes_of_one_size_all_have_the_low_margin() -> None:
    np.testing.assert_array_equal(dynamic_margins(np.array([7, 7, 7]), 0.05, 0.5), [0.05] * 3)


def test_a_class_without_a_photo_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match="class 1 has 0 photos"):
        dynamic_margins(np.array([3, 0]), 0.05, 0.5)
