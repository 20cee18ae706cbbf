"""Weights of classes worked out by hand, and what they do in each loss that takes them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cairn.losses import LOSSES
from cairn.losses.params import ArcFaceParams, LossParams, SoftmaxParams, SubCenterParams
from cairn.losses.weighting import class_weights

SIZES = np.array([1, 9, 90])
PARAMS: dict[str, LossParams] = {
    "arcface": ArcFaceParams(scale=16, margin=0.2),
    "subcenter": SubCenterParams(scale=16, margin_low=0.05, margin_high=0.5, centres=3),
    "softmax": SoftmaxParams(label_smoothing=0.1),
}


def test_they_are_as_published_and_their_mean_over_the_photos_is_one() -> None:
    for kind, raw in {
        "log": [1 / math.log(2), 1 / math.log(10), 1 / math.log(91)],
        "sqrt": [1, 1 / 3, 1 / math.sqrt(90)],
    }.items():
        found = class_weights(kind, SIZES)
        assert found is not None
        assert found.dtype == torch.float32
        of_photos = np.repeat(raw, SIZES)
        np.testing.assert_allclose(found.numpy(), np.array(raw) / of_photos.mean(), rtol=1e-6)
        assert np.repeat(found.numpy(), SIZES).mean() == pytest.approx(1)


def test_classes_of_one_size_all_weigh_one_and_none_weighs_nothing() -> None:
    weights = class_weights("log", np.array([7, 7, 7]))
    assert weights is not None
    torch.testing.assert_close(weights, torch.ones(3))
    assert class_weights("none", SIZES) is None


def test_a_class_without_a_photo_is_refused() -> None:
    with pytest.raises(ValueError, match="class 1 has 0 photos"):
        class_weights("log", np.array([3, 0]))


@pytest.mark.parametrize("loss", PARAMS)
def test_a_loss_is_the_mean_of_each_photos_loss_times_its_weight(loss: str) -> None:
    torch.manual_seed(0)
    head = LOSSES[loss](6, SIZES, PARAMS[loss])
    state = head.state_dict()
    features, classes = torch.randn(12, 6), torch.arange(12) % 3
    alone = [head(features[i : i + 1], classes[i : i + 1]).item() for i in range(12)]
    weights = torch.tensor([3.0, 0.5, 0.0])
    head.class_weights = weights
    wanted = np.mean([weights[c].item() * part for c, part in zip(classes, alone, strict=True)])
    assert head(features, classes).item() == pytest.approx(wanted, rel=1e-5)
    assert list(head.state_dict()) == list(state)  # weights follow from the data, and are not saved
    head.class_weights = torch.ones(3)
    plain = LOSSES[loss](6, SIZES, PARAMS[loss])
    plain.load_state_dict(state)
    torch.testing.assert_close(head(features, classes), plain(features, classes))
