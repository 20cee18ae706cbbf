"""Training with an attention branch: what is summed, who learns how fast, the same bytes after a cut, the sheet."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from cairn.locations import Photos
from cairn.losses import LOSSES
from cairn.losses.params import ArcFaceParams, SoftmaxParams
from cairn.networks.embedder import Embedder, load_embedder, make_embedder, save_embedder
from cairn.networks.params import AttentionParams, NeckName
from cairn.params import TrainParams, load_params
from cairn.training.attention_sheet import attention_rows
from cairn.training.loop import Network, Trained, set_training, start, train
from cairn.training.optimiser import make_optimiser

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml").train
SIZE = 64
SUMMED, MIXED = AttentionParams(width=8), AttentionParams(width=8, weighting="plain", loss="mixed", alpha=0.5)
IMAGES = torch.randn(6, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
CLASSES = torch.tensor([0, 1, 2, 0, 1, 2])


def settings(epochs: int, **changes: Any) -> TrainParams:
    schedule = {"epochs": epochs, "batch_size": 8, "image_size": SIZE, "warmup_epochs": 0.0, "course": "constant"}
    changed = {name: value for name, value in changes.items() if name in type(PARAMS.scratch).model_fields}
    others = {name: value for name, value in changes.items() if name not in changed}
    scratch = PARAMS.scratch.model_copy(update={**schedule, **changed})
    return PARAMS.model_copy(update={"scratch": scratch, "finetune": scratch, "patience": 50, **others})


def fresh(attention: AttentionParams | None) -> Embedder:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    classes = None if attention is None else 3
    return make_embedder(
        "test_resnet", "none", "auto", "linear", 8, SIZE, 64, 10.0, "centre", attention=attention, classes=classes
    )


def network_of(attention: AttentionParams, loss: str) -> Network:
    embedder = fresh(attention)
    how = {"arcface": ArcFaceParams(scale=16, margin=0.3), "softmax": SoftmaxParams(label_smoothing=0)}[loss]
    return Network(embedder, LOSSES[loss](8, np.array([8, 8, 8]), how))


def fit(photos: Photos, keep: Path, attention: AttentionParams, params: TrainParams, precision: str) -> Trained:
    keep.mkdir(exist_ok=True)
    return train(fresh(attention), photos, photos, params, precision, 5, keep, lambda row: None)


@torch.no_grad()
@pytest.mark.parametrize(("attention", "loss"), [(SUMMED, "arcface"), (SUMMED, "softmax"), (MIXED, "softmax")])
def test_the_loss_and_the_scores_are_those_of_both_branches(attention: AttentionParams, loss: str) -> None:
    network = network_of(attention, loss).eval()
    branch, embedder, head = network.embedder.branches[0], network.embedder, network.head
    found = branch.backbone.branches(IMAGES)
    features = embedder.neck(branch.pooling(found.features))
    entropy = functools.partial(nn.functional.cross_entropy, target=CLASSES)
    if attention.loss == "summed":
        wanted, scores = entropy(found.scores) + head(features, CLASSES), head.scores(features)
    else:
        scores = 0.5 * found.scores.softmax(1) + 1.0 * head.scores(features)
        wanted = entropy(scores)
    seen = network.seen(IMAGES, "fp32")
    torch.testing.assert_close(network.loss(seen, CLASSES), wanted)
    torch.testing.assert_close(network.scores(seen), scores)


@pytest.mark.parametrize(("attention", "loss"), [(SUMMED, "arcface"), (MIXED, "softmax")])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_learns_and_a_run_that_was_cut_off_goes_on_to_the_same_bytes(
    tmp_path: Path, photos: Photos, attention: AttentionParams, loss: str, precision: str
) -> None:
    whole = fit(photos, tmp_path / "whole", attention, settings(4, loss=loss), precision)
    fit(photos, tmp_path / "parts", attention, settings(2, loss=loss), precision)
    resumed = fit(photos, tmp_path / "parts", attention, settings(4, loss=loss), precision)
    assert resumed.history == whole.history
    for name, value in whole.embedder.state_dict().items():
        assert torch.equal(value, resumed.embedder.state_dict()[name])
    assert max(row["validation_accuracy"] for row in whole.history) >= 0.9
    save_embedder(whole.embedder, tmp_path / "model")
    assert torch.equal(load_embedder(tmp_path / "model")(IMAGES), whole.embedder(IMAGES))


def test_the_branch_learns_as_fast_as_the_head_and_the_backbone_within_has_its_own_rate() -> None:
    network = network_of(SUMMED, "softmax")
    branch = network.embedder.branches[0]
    rates = {"backbone_lr": 0.25, "head_lr": 0.5}
    optimiser = make_optimiser(network.embedder, network.head, settings(1, **rates).scratch)
    rate_of = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    assert branch.attention is not None
    assert {rate_of[id(p)] for p in branch.trunk.parameters()} == {0.25}
    assert {rate_of[id(p)] for p in branch.attention.parameters()} == {0.5}
    assert len(rate_of) == len(list(network.parameters()))
    frozen = make_optimiser(network.embedder, network.head, settings(1, **{**rates, "backbone_lr": 0.0}).scratch)
    trained = {id(p) for group in frozen.param_groups for p in group["params"]}
    assert not trained & {id(p) for p in branch.trunk.parameters()}
    assert trained >= {id(p) for p in branch.attention.parameters()}


@pytest.mark.parametrize(
    ("batch_norm", "backbone_lr", "backbone_trains"),
    [("train", 0.1, True), ("eval", 0.1, False), ("train", 0.0, False), ("drifting", 0.0, True)],
)
def test_norms_of_the_backbone_alone_are_held_and_a_frozen_backbone_may_drift(
    batch_norm: str, backbone_lr: float, backbone_trains: bool
) -> None:
    network = network_of(SUMMED, "softmax")
    schedule = settings(1, batch_norm=batch_norm, backbone_lr=backbone_lr).scratch
    make_optimiser(network.embedder, network.head, schedule)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    set_training(network, schedule)
    network.seen(IMAGES, "fp32")
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    trunk = {name for name in moved if name.startswith("embedder.branches.0.backbone.backbone.")}
    assert (trunk != set()) == backbone_trains
    assert all("running" in name or "num_batches" in name for name in moved)
    assert {"embedder.branches.0.backbone.attention.shared.2.running_mean", "embedder.neck.1.running_mean"} <= moved


GIVEN = {"weights": "given.safetensors"}  # as params name them; the networks here were made without


def test_with_weights_neck_and_head_start_from_the_weighted_features(photos: Photos) -> None:
    network = network_of(SUMMED, "arcface")
    means = start(network, photos, settings(1, **GIVEN), "fp32")
    branch = network.eval().embedder.branches[0]
    assert means.shape == (3, branch.width)
    rows = network.embedder.neck(torch.from_numpy(means)).detach()
    assert torch.equal(network.head.scores(rows).argmax(dim=1), torch.arange(3))


@pytest.mark.parametrize(("neck", "begins"), [("linear_relu", "features"), ("linear", "random")])
def test_necks_of_other_systems_start_at_random_and_ours_may(photos: Photos, neck: NeckName, begins: str) -> None:
    torch.manual_seed(0)
    embedder = make_embedder("test_resnet", "none", "mean", neck, 8, SIZE, 64, 10.0, "centre")
    network = Network(embedder, LOSSES["softmax"](8, np.array([8, 8, 8]), SoftmaxParams(label_smoothing=0)))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    start(network, photos, settings(1, neck=neck, start=begins, **GIVEN), "fp32")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_sheet_shows_the_first_photo_of_each_class_and_what_the_branch_says(photos: Photos) -> None:
    shuffled = Photos(photos.locations[1:9], np.array([1, 2, -1, 1, 2, 0, 1, 0]))
    embedder = fresh(SUMMED).eval()
    rows = attention_rows(embedder, shuffled, ["a", "b", "c"])
    assert [row.caption for row in rows] == ["a", "b", "c"]
    for row, photo in zip(rows, (5, 0, 1), strict=True):
        how = embedder.config.preprocessing
        pixels = (np.asarray(row.photo) / 255 - how.mean) / how.std
        seen = embedder.seen(torch.from_numpy(pixels.transpose(2, 0, 1)[None]).float())
        assert seen.attention is not None
        assert seen.scores is not None
        np.testing.assert_allclose(row.attention, seen.attention[0, 0].detach(), atol=1e-5)
        share, said = seen.scores.softmax(1)[0].max(0)
        assert row.said == f"said {'abc'[said]}\n{share:.2f}"
        assert row.right == (said == shuffled.classes[photo])
        assert row.photo.size == (SIZE, SIZE)
    assert attention_rows(fresh(None).eval(), shuffled, ["a", "b", "c"]) == []


def test_only_logits_can_be_mixed() -> None:
    with pytest.raises(ValidationError, match="mixes logits, which loss = arcface has not"):
        TrainParams.model_validate({**PARAMS.model_dump(), "loss": "arcface", "attention": {"loss": "mixed"}})


def test_labels_are_not_smoothed_where_logits_are_mixed() -> None:
    mixing = {**settings(1, loss="softmax").model_dump(), "attention": {"loss": "mixed"}}
    TrainParams.model_validate(mixing)
    mixing["scratch"]["losses"]["softmax"]["label_smoothing"] = 0.1
    with pytest.raises(ValidationError, match=r"label_smoothing = 0\.1: attention.loss = mixed .* use 0, or summed"):
        TrainParams.model_validate(mixing)
    TrainParams.model_validate({**mixing, "attention": {"loss": "summed"}})
