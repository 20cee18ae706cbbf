"""Techniques of a schedule in real training: what each changes, and that a run that was cut off ends the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from training.cut_off import cut_off, equal, fit

from cairn.locations import Photos
from cairn.losses.weighting import class_weights
from cairn.networks.embedder import Embedder, make_embedder
from cairn.params import TrainParams, load_params

TRAIN = load_params(Path(__file__).parents[2] / "params.yaml").train
EPOCHS = 3
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "weighted classes": ("test_resnet", {"class_weight": "log", "average": 0.9}),
    "layers with their own rates, the first frozen": ("test_vit3", {"layer_decay": 0.7, "frozen_layers": 2}),
    "frozen layers with batch norms": ("test_resnet", {"frozen_layers": 2}),
    "growing photos, convolutions": ("test_resnet", {"progressive_sizes": (32, 40)}),
    "growing photos, a transformer": ("test_vit3", {"progressive_sizes": (32,)}),
}


def settings(changes: dict[str, Any]) -> TrainParams:
    plain = {"epochs": EPOCHS, "batch_size": 8, "image_size": 48, "warmup_epochs": 0.5, "head_lr": 0.01}
    schedule = TRAIN.scratch.model_copy(update=plain | changes)
    return TRAIN.model_copy(update={"scratch": schedule, "patience": 50, "dimensions": 8})


def fresh(backbone: str, params: TrainParams) -> Embedder:
    torch.manual_seed(0)
    grows = len(params.schedule.progressive_sizes) > 0
    return make_embedder(backbone, "none", "auto", "linear", 8, 48, 64, 10.0, "centre", any_size=grows)


@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_was_cut_off_goes_on_to_the_same_bytes(
    tmp_path: Path, photos: Photos, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    backbone, changes = WAYS[way]
    params = settings(changes)
    whole = fit(fresh(backbone, params), photos, tmp_path / "whole", params)
    assert all(torch.isfinite(torch.tensor(row["train_loss"])) for row in whole.history)
    with cut_off(monkeypatch, epoch=1):
        fit(fresh(backbone, params), photos, tmp_path / "cut", params)
    resumed = fit(fresh(backbone, params), photos, tmp_path / "cut", params)
    assert resumed.history == whole.history
    assert equal(resumed.embedder, whole.embedder)


def test_frozen_layers_keep_their_weights_and_statistics_and_the_others_do_not(tmp_path: Path, photos: Photos) -> None:
    params = settings({"frozen_layers": 2, "epochs": 1})
    embedder = fresh("test_resnet", params)
    before = {name: value.clone() for name, value in embedder.branches[0].backbone.state_dict().items()}
    fit(embedder, photos, tmp_path, params)
    for name, value in embedder.branches[0].backbone.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith(("conv1.", "bn1.", "layer1.")), name


def test_photos_grow_over_the_epochs_and_are_validated_at_the_full_size(tmp_path: Path, photos: Photos) -> None:
    params = settings({"progressive_sizes": (32, 40)})
    embedder = fresh("test_resnet", params)
    seen: list[tuple[bool, int]] = []

    def note(module: torch.nn.Module, given: tuple[torch.Tensor]) -> None:
        seen.append((module.training, given[0].shape[3]))

    embedder.branches[0].backbone.conv1.register_forward_pre_hook(note)  # type: ignore[union-attr]
    fit(embedder, photos, tmp_path, params)
    batches = 3  # of training as of validation, in each epoch
    wanted = [(False, 32), (False, 40)]  # tried once, before any training
    for size in (32, 40, 48):
        wanted += [(True, size)] * batches + [(False, 48)] * batches
    assert seen == wanted


def test_weights_of_classes_reach_the_loss(tmp_path: Path, photos: Photos) -> None:
    few = Photos(photos.locations[:9], photos.classes[:9].copy())
    few.classes[:6] = 0
    few.classes[6:] = (1, 1, 2)
    params = settings({"class_weight": "sqrt", "epochs": 1})
    trained = fit(fresh("test_resnet", params), few, tmp_path, params)
    assert trained.head is not None
    wanted = class_weights("sqrt", torch.tensor([6, 2, 1]).numpy())
    assert wanted is not None
    assert trained.head.class_weights is not None
    torch.testing.assert_close(trained.head.class_weights, wanted)
    plain = settings({"epochs": 1})
    unweighted = fit(fresh("test_resnet", plain), few, tmp_path / "plain", plain)
    assert trained.history[0]["train_loss"] != unweighted.history[0]["train_loss"]
