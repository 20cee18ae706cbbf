"""Class means in numpy, and what every loss in the table promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from cairn.losses import LOSSES
from cairn.losses.base import LossHead, class_means
from cairn.losses.params import ArcFaceParams, LossParams, SoftmaxParams, SubCenterParams, TripletParams

PARAMS: dict[str, LossParams] = {
    "arcface": ArcFaceParams(scale=16, margin=0.2),
    "subcenter": SubCenterParams(scale=16, margin_low=0.05, margin_high=0.5, centres=3),
    "softmax": SoftmaxParams(label_smoothing=0.1),
    "triplet": TripletParams(memory=0.5),
}
SIZES = np.array([3, 9, 27, 81])
CENTRES = 3 * torch.eye(4, 6)  # far apart


def features_near_centres(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    classes = torch.arange(32) % 4
    noise = torch.randn(32, 6, generator=torch.Generator().manual_seed(seed))
    return CENTRES[classes] + 0.3 * noise, classes


@pytest.fixture(params=sorted(LOSSES))
def head(request: pytest.FixtureRequest) -> LossHead:
    torch.manual_seed(0)
    made = LOSSES[request.param](6, SIZES, PARAMS[request.param])
    assert isinstance(made, LossHead)
    return made


def test_class_means_are_the_unit_vectors_of_mean_unit_vectors() -> None:
    rng = np.random.default_rng(0)
    features, classes = rng.normal(size=(20, 3)).astype(np.float32), np.array([0, 1, 3, 3] * 5)
    before = rng.normal(size=(5, 3)).astype(np.float32)
    found = class_means(torch.from_numpy(features), torch.from_numpy(classes), torch.from_numpy(before)).numpy()
    for c in (0, 1, 3):
        mean = np.mean([f / np.linalg.norm(f) for f in features[classes == c]], axis=0)
        np.testing.assert_allclose(found[c], mean / np.linalg.norm(mean), rtol=1e-5)
    for c in (2, 4):  # without a photo
        np.testing.assert_array_equal(found[c], before[c])


def test_scores_are_a_row_a_photo_and_after_the_start_the_true_class_leads(head: LossHead) -> None:
    features, classes = features_near_centres(0)
    head.start(features, classes)
    fresh, true = features_near_centres(1)
    scores = head.eval().scores(fresh)
    assert scores.shape == (32, 4)
    assert torch.equal(scores.argmax(dim=1), true)


def test_the_loss_is_lower_at_the_right_classes_and_its_gradient_finite(head: LossHead) -> None:
    features, classes = features_near_centres(0)
    head.start(features, classes)
    features.requires_grad_()
    right, wrong = head(features, classes), head(features, classes.sort().values)
    assert right.shape == ()
    assert right.item() < wrong.item()
    right.backward()
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()
    assert features.grad.abs().sum() > 0


def test_a_head_comes_back_from_its_saved_state(head: LossHead, request: pytest.FixtureRequest) -> None:
    features, classes = features_near_centres(0)
    head.start(features, classes)
    head(features, classes)
    name = request.node.callspec.params["head"]
    again = LOSSES[name](6, SIZES, PARAMS[name])
    again.load_state_dict(head.state_dict())
    assert torch.equal(again.scores(features), head.scores(features))
    assert torch.equal(again(features, classes), head(features, classes))


def test_the_start_leaves_what_the_head_knows_of_classes_without_a_photo(head: LossHead) -> None:
    features, classes = features_near_centres(0)
    head.start(features, classes)
    before = {name: rows.detach().clone() for name, rows in head.rows().items()}
    assert any(rows[2].any() for rows in before.values())
    others, shown = features_near_centres(1)
    head.start(others[shown != 2], shown[shown != 2])
    for name, rows in head.rows().items():
        torch.testing.assert_close(rows[2].detach(), before[name][2])


def test_the_start_leaves_classes_without_a_photo_able_to_learn(head: LossHead) -> None:
    features, classes = features_near_centres(0)
    head.start(features[classes != 2], classes[classes != 2])
    loss = head(features.requires_grad_(), classes)
    loss.backward()
    gradients = [features.grad, *(p.grad for p in head.parameters())]
    assert all(g is not None and torch.isfinite(g).all() and g.norm() < 1e3 for g in gradients)


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (ArcFaceParams, {"scale": 0, "margin": 0.2}),
        (ArcFaceParams, {"scale": 16, "margin": 0.2, "centres": 3}),
        (SubCenterParams, {"scale": 16, "margin_low": 0.5, "margin_high": 0.4, "centres": 3}),
        (SubCenterParams, {"scale": 16, "margin_low": 0.1, "margin_high": 0.4, "centres": 0}),
        (SoftmaxParams, {"label_smoothing": 1}),
        (TripletParams, {"memory": 1}),
    ],
)
def test_params_out_of_range_are_refused(model: type[LossParams], values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        model.model_validate(values)
