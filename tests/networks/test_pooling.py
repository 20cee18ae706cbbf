"""Poolings against their formulas in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cairn.networks.pooling import ClassMean, Gem, Mean

MAP = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("power", [1.0, 3.0, 4.6])
def test_gem_is_the_power_mean(power: float) -> None:
    gem = Gem(prefix_tokens=0)
    gem.p.data.fill_(power)
    wanted = (MAP.numpy().astype(np.float64) ** power).mean(axis=(2, 3)) ** (1 / power)
    np.testing.assert_allclose(gem(MAP).detach().numpy(), wanted, rtol=1e-4)


def test_gem_of_power_one_is_the_mean_and_of_a_large_power_the_largest() -> None:
    gem = Gem(prefix_tokens=0)
    gem.p.data.fill_(1.0)
    torch.testing.assert_close(gem(MAP), Mean(0)(MAP))
    gem.p.data.fill_(80.0)
    torch.testing.assert_close(gem(MAP), MAP.amax(dim=(2, 3)), rtol=0.05, atol=0)


def test_class_mean_puts_two_unit_vectors_side_by_side() -> None:
    tokens = TOKENS.numpy()
    first, mean = tokens[:, 0], tokens[:, 1:].mean(axis=1)
    wanted = np.hstack([part / np.linalg.norm(part, axis=1, keepdims=True) for part in (first, mean)])
    np.testing.assert_allclose(ClassMean(prefix_tokens=1)(TOKENS).numpy(), wanted, rtol=1e-5)


def test_class_mean_needs_a_class_token() -> None:
    with pytest.raises(ValueError, match="gem or mean"):
        ClassMean(prefix_tokens=0)
