"""The running mean of weights, worked out by hand, and saved and found again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from cairn.training.averaging import averaged
from cairn.training.checkpoint import load_checkpoint, save_checkpoint


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def step(model: nn.Module, seed: int) -> None:
    """Change weights and buffers as training does."""
    torch.manual_seed(seed)
    model.train()(torch.randn(8, 3))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight))


@pytest.mark.parametrize("decay", [0.0, 0.15, 0.999])
def test_weights_and_statistics_are_averaged_as_it_says(decay: float) -> None:
    model = network()
    average = averaged(model, decay)
    wanted: dict[str, torch.Tensor] = {}
    for n in range(30):
        step(model, n)
        average.update_parameters(model)
        d = 0.0 if n == 0 else min(decay, (1 + n) / (10 + n))
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                before = wanted.get(name, torch.zeros_like(tensor, dtype=torch.float64))
                wanted[name] = d * before + (1 - d) * tensor.double()
    found = average.module.state_dict()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name].double(), tensor, rtol=1e-4, atol=1e-5)


def test_without_decay_it_is_the_model_to_the_bit() -> None:
    model = network()
    average = averaged(model, 0.0)
    for n in range(4):
        step(model, n)
        average.update_parameters(model)
    for found, wanted in zip(average.module.parameters(), model.parameters(), strict=True):
        assert torch.equal(found, wanted)


def test_weights_that_do_not_change_stay_to_the_bit() -> None:
    model = network()
    average = averaged(model, 0.9)
    for _ in range(5):
        average.update_parameters(model)
    for found, wanted in zip(average.module.parameters(), model.parameters(), strict=True):
        assert torch.equal(found, wanted)


def test_a_run_that_was_cut_off_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    def run(model: nn.Module, average: nn.Module, steps: range) -> None:
        for n in steps:
            step(model, n)
            average.update_parameters(model)  # type: ignore[operator]

    model = network()
    whole = averaged(model, 0.99)
    run(model, whole, range(12))

    model = network()
    first = averaged(model, 0.99)
    run(model, first, range(5))
    save_checkpoint(tmp_path / "c.pt", {"model": model.state_dict(), "average": first.state_dict()})
    found = load_checkpoint(tmp_path / "c.pt")
    assert found is not None
    model = network()
    again = averaged(model, 0.99)
    model.load_state_dict(found["model"])
    again.load_state_dict(found["average"])
    run(model, again, range(5, 12))
    for name, tensor in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
