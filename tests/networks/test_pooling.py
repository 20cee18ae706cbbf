"""Poolings against their formulas in numpy."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch

from cairn.networks.backbones import BackboneError, FeatureShape
from cairn.networks.params import PoolingName
from cairn.networks.pooling import POOLINGS, ClassMean, Flatten, Gem, MaxFlatten, Mean

MAP_SHAPE = FeatureShape(3, 0, 4, 5)
TOKENS_SHAPE = FeatureShape(3, 1, 1, 6, tokens=True, class_token=True)
MAP = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("power", [1.0, 3.0, 4.6])
def test_gem_is_the_power_mean(power: float) -> None:
    gem = Gem(MAP_SHAPE)
    gem.p.data.fill_(power)
    wanted = (MAP.numpy().astype(np.float64) ** power).mean(axis=(2, 3)) ** (1 / power)
    np.testing.assert_allclose(gem(MAP).detach().numpy(), wanted, rtol=1e-4)


def test_gem_of_power_one_is_the_mean_and_of_a_large_power_the_largest() -> None:
    gem = Gem(MAP_SHAPE)
    gem.p.data.fill_(1.0)
    torch.testing.assert_close(gem(MAP), Mean(MAP_SHAPE)(MAP))
    gem.p.data.fill_(80.0)
    torch.testing.assert_close(gem(MAP), MAP.amax(dim=(2, 3)), rtol=0.05, atol=0)


def test_gem_and_mean_of_tokens_leave_the_ones_before_the_patches_out() -> None:
    patches = TOKENS[:, 1:].numpy().astype(np.float64)
    powered = (np.maximum(patches, 1e-6) ** 3).mean(axis=1) ** (1 / 3)
    for kind, wanted in ((Mean, patches.mean(axis=1)), (Gem, powered)):
        np.testing.assert_allclose(kind(TOKENS_SHAPE)(TOKENS).detach().numpy(), wanted, rtol=1e-4)


def test_class_mean_puts_two_unit_vectors_side_by_side() -> None:
    tokens = TOKENS.numpy()
    first, mean = tokens[:, 0], tokens[:, 1:].mean(axis=1)
    wanted = np.hstack([part / np.linalg.norm(part, axis=1, keepdims=True) for part in (first, mean)])
    np.testing.assert_allclose(ClassMean(TOKENS_SHAPE)(TOKENS).numpy(), wanted, rtol=1e-5)


def test_class_mean_needs_a_class_token() -> None:
    for shape in (MAP_SHAPE, TOKENS_SHAPE._replace(class_token=False)):  # the one before the patches is a register
        with pytest.raises(ValueError, match="gem or mean"):
            ClassMean(shape)


def test_flatten_is_vggs_channel_by_channel_and_row_by_row() -> None:
    features = torch.arange(2 * 512 * 7 * 7.0).reshape(2, 512, 7, 7)
    flatten = Flatten(FeatureShape(512, 0, 7, 7))
    assert flatten.width == 25088
    assert torch.equal(flatten(features), features.reshape(2, -1))
    assert flatten(features)[1, 49 * 2 + 7 * 3 + 4] == features[1, 2, 3, 4]


@pytest.mark.parametrize("side", [3, 10, 14])
def test_flatten_brings_other_maps_to_seven_places_a_side_by_means(side: int) -> None:
    features = torch.rand(1, 2, side, side)
    values = features[0].numpy()
    bins = [slice(i * side // 7, -(-(i + 1) * side // 7)) for i in range(7)]
    wanted = [channel[rows, columns].mean() for channel in values for rows in bins for columns in bins]
    np.testing.assert_allclose(Flatten(FeatureShape(2, 0, side, side))(features)[0], wanted, rtol=1e-5)


def test_max_flatten_keeps_the_largest_of_four_and_leaves_an_odd_edge_out() -> None:
    features = torch.rand(2, 3, 5, 4)
    pooling = MaxFlatten(FeatureShape(3, 0, 5, 4))
    wanted = features[:, :, :4].reshape(2, 3, 2, 2, 2, 2).amax(dim=(3, 5)).reshape(2, -1)
    assert pooling.width == wanted.shape[1] == 12
    assert torch.equal(pooling(features), wanted)
    with pytest.raises(ValueError, match="2 x 2 places, not 1 x 1"):
        MaxFlatten(FeatureShape(3, 0, 1, 1))


@pytest.mark.parametrize("kind", [Flatten, MaxFlatten])
def test_patches_are_folded_before_they_are_flattened(kind: type[Flatten] | type[MaxFlatten]) -> None:
    tokens = torch.rand(2, 1 + 16, 3)
    map_ = tokens[:, 1:].transpose(1, 2).reshape(2, 3, 4, 4)
    wanted = kind(FeatureShape(3, 0, 4, 4))(map_)
    assert torch.equal(kind(FeatureShape(3, 1, 4, 4, tokens=True))(tokens), wanted)
    with pytest.raises(BackboneError, match="15 patch tokens"):
        kind(FeatureShape(3, 1, 4, 4, tokens=True))(tokens[:, :-1])


def test_the_table_has_every_name_that_params_have() -> None:
    assert tuple(POOLINGS) == get_args(PoolingName)
