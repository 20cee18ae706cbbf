"""Softmax against sums written out, and how sure it starts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cairn.losses.softmax import START_SURENESS, Softmax


def probabilities(head: Softmax, features: np.ndarray) -> np.ndarray:
    weight, bias = head.linear.weight.detach().double().numpy(), head.linear.bias.detach().double().numpy()
    powers = np.exp(features @ weight.T + bias)
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_it_is_the_published_formula(smoothing: float) -> None:
    torch.manual_seed(0)
    head, features, classes = Softmax(6, 5, smoothing), torch.randn(20, 6), torch.arange(20) % 5
    logs = np.log(probabilities(head, features.double().numpy()))
    wanted = -np.mean(
        [(1 - smoothing) * row[true] + smoothing * row.mean() for row, true in zip(logs, classes, strict=True)]
    )
    assert head(features, classes).item() == pytest.approx(wanted, rel=1e-5)


def test_scores_are_probabilities() -> None:
    torch.manual_seed(0)
    head, features = Softmax(6, 5, 0.0), torch.randn(20, 6)
    np.testing.assert_allclose(
        head.scores(features).detach().numpy(), probabilities(head, features.double().numpy()), rtol=1e-4
    )
    weights, biases = head.linear_parts()
    torch.testing.assert_close(head.logits(features), features @ weights.T + biases)


@pytest.mark.parametrize("length", [0.1, 1.0, 30.0])
def test_it_starts_as_sure_as_it_says_whatever_the_length_of_the_features(length: float) -> None:
    head, features, classes = Softmax(8, 8, 0.0), length * torch.eye(8), torch.arange(8)
    head.start(features, classes)
    np.testing.assert_allclose(np.diag(head.scores(features).detach().numpy()), START_SURENESS, rtol=1e-4)
