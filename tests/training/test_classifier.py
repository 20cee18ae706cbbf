"""The classifier is the head: the same probabilities as a softmax over its scaled scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cairn.losses import LOSSES
from cairn.losses.params import ArcFaceParams, SoftmaxParams, SubCenterParams
from cairn.training.classifier import classifier_of

SIZES, IDS = np.array([3, 9, 5]), np.array([4, 7, 11])
PARAMS = {
    "arcface": ArcFaceParams(scale=16.0, margin=0.3),
    "subcenter": SubCenterParams(scale=16.0, margin_low=0.1, margin_high=0.4, centres=3),
}


@pytest.mark.parametrize("loss", PARAMS)
def test_probabilities_are_the_heads(loss: str) -> None:
    torch.manual_seed(0)
    head = LOSSES[loss](6, SIZES, PARAMS[loss])
    classifier = classifier_of(head, IDS)
    assert classifier is not None
    vectors = torch.nn.functional.normalize(torch.randn(8, 6), dim=1)
    wanted = torch.softmax(16 * head.scores(vectors), dim=1).detach().numpy()
    np.testing.assert_allclose(classifier(vectors.numpy()), wanted, atol=1e-5)
    assert classifier.landmark_ids.tolist() == IDS.tolist()


def test_a_head_without_cosines_and_no_head_give_none() -> None:
    assert classifier_of(LOSSES["softmax"](6, SIZES, SoftmaxParams(label_smoothing=0)), IDS) is None
    assert classifier_of(None, IDS) is None
