"""Necks against their formulas in numpy."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from cairn.networks.necks import NECKS
from cairn.networks.params import NeckName

FEATURES = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))


def made(name: NeckName) -> nn.Module:
    """10 to 4, with batch norms that have statistics and weights of their own, in eval mode."""
    torch.manual_seed(1)
    neck = NECKS[name](10, 4)
    for module in neck.modules():
        if isinstance(module, nn.BatchNorm1d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                assert tensor is not None
                nn.init.uniform_(tensor, 0.5, 2.0)
    return neck.eval()


def values(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def linear(x: np.ndarray, layer: nn.Module) -> np.ndarray:
    assert isinstance(layer, nn.Linear)
    return x @ values(layer.weight).T + (0 if layer.bias is None else values(layer.bias))


def norm(x: np.ndarray, layer: nn.Module) -> np.ndarray:
    assert isinstance(layer, nn.BatchNorm1d)
    mean, variance, scale, shift = map(values, (layer.running_mean, layer.running_var, layer.weight, layer.bias))
    return (x - mean) / np.sqrt(variance + layer.eps) * scale + shift


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def by_hand(name: NeckName, neck: nn.Module) -> np.ndarray:
    x = values(FEATURES)
    if name == "none":
        return x
    assert isinstance(neck, nn.Sequential)
    if name == "dropout_linear":
        return linear(norm(x, neck[0]), neck[2])
    if name == "vgg":
        return relu(linear(relu(linear(x, neck[0])), neck[3]))
    x = norm(linear(x, neck[0]), neck[1])
    if name == "linear_prelu":
        return np.where(x > 0, x, 0.25 * x)  # the slope that it starts with
    return relu(x) if name == "linear_relu" else x


@pytest.mark.parametrize("name", NECKS)
def test_a_neck_is_its_formula(name: NeckName) -> None:
    neck = made(name)
    np.testing.assert_allclose(values(neck(FEATURES)), by_hand(name, neck), rtol=1e-4, atol=1e-5)


def test_the_table_has_every_name_that_params_have() -> None:
    assert tuple(NECKS) == get_args(NeckName)


def test_the_usual_neck_is_saved_under_the_names_it_always_had() -> None:
    state = NECKS["linear"](10, 4).state_dict()
    norm_state = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    assert list(state) == ["0.weight", *(f"1.{name}" for name in norm_state)]


@pytest.mark.parametrize(("name", "shares"), [("vgg", (0.5, 0.5)), ("dropout_linear", (0.2,))])
def test_units_are_dropped_in_training_alone(name: NeckName, shares: tuple[float, ...]) -> None:
    neck = made(name)
    assert tuple(m.p for m in neck.modules() if isinstance(m, nn.Dropout)) == shares
    assert torch.equal(neck(FEATURES), neck(FEATURES))
    assert not torch.equal(neck.train()(FEATURES), neck(FEATURES))


@pytest.mark.parametrize("name", ["linear_relu", "vgg"])
def test_a_photo_that_lights_up_nothing_still_has_a_unit_vector(name: NeckName) -> None:
    neck = made(name)
    assert isinstance(neck, nn.Sequential)
    last = neck[1] if name == "linear_relu" else neck[3]
    nn.init.zeros_(last.weight)
    nn.init.constant_(last.bias, -1.0)
    for given in (neck, neck.half()):
        out = given(FEATURES.to(next(given.parameters()).dtype)).float()
        torch.testing.assert_close(nn.functional.normalize(out, dim=1), torch.full((6, 4), 0.5))


def test_reading_params_imports_no_torch() -> None:
    code = "import sys, cairn.params; found = set(sys.modules); assert 'torch' not in found; "
    code += "assert {'cairn.networks.params', 'cairn.losses.params'} <= found"
    subprocess.run([sys.executable, "-c", code], check=True)
