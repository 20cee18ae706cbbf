"""Training on made photos: it learns, it repeats to the byte, and a run that was cut off ends the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training.cut_off import Cut, cut_off, equal, fit, watched
from training.together_worker import fresh

from cairn.locations import Photos
from cairn.losses import base
from cairn.losses.arcface import ArcFace
from cairn.networks.embedder import Embedder, make_embedder
from cairn.params import TrainParams, load_params
from cairn.training import loop
from cairn.training.augment import AugmentedPhotos
from cairn.training.checkpoint import CHECKPOINT_FILE, load_checkpoint
from cairn.training.layout import lay_back, lay_out
from cairn.training.loop import Network, Trained, looked_at, pooled_features, train, unfitted, validate
from cairn.training.photos import plain_batches
from cairn.training.start import start_neck

ROOT = Path(__file__).parents[2]


def settings(epochs: int, workers: int = 0) -> TrainParams:
    params = load_params(ROOT / "params.yaml").train
    schedule = params.scratch.model_copy(
        update={"epochs": epochs, "batch_size": 8, "image_size": 32, "warmup_epochs": 0.5}
    )
    return params.model_copy(update={"scratch": schedule, "workers": workers, "patience": 50, "dimensions": 8})


def test_it_learns_and_repeats_with_any_number_of_workers(tmp_path: Path, photos: Photos) -> None:
    one = fit(fresh(), photos, tmp_path / "one", settings(8))
    two = fit(fresh(), photos, tmp_path / "two", settings(8, workers=2))
    assert equal(one.embedder, two.embedder)
    assert one.history == two.history
    assert one.history[-1]["train_loss"] < one.history[0]["train_loss"] / 2
    assert one.history[one.best_epoch - 1]["validation_accuracy"] == 1.0


WAYS = {
    "sub-centers, averaged weights": ("subcenter", {"average": 0.9}),
    "softmax, SGD, two batches to a step": ("softmax", {"optimiser": "sgd", "accumulate": 2, "head_lr": 0.1}),
    "two of three classes a step, averaged": ("subcenter", {"class_share": 0.6, "average": 0.9}),
    "two of three classes a step, SGD": ("softmax", {"class_share": 0.6, "optimiser": "sgd", "head_lr": 0.1}),
    "triplets of chosen classes": ("triplet", {"sampler": {"name": "classes", "classes": 2, "images": 4}}),
    "triplets of subspaces": ("triplet", {"sampler": {"name": "subspaces", "classes": 2, "images": 4, "subspaces": 2}}),
}


@pytest.mark.parametrize("way", WAYS)
def test_other_losses_samplers_and_optimisers_learn_and_resume_to_the_same_bytes(
    tmp_path: Path, photos: Photos, way: str
) -> None:
    loss, changes = WAYS[way]

    def chosen(epochs: int) -> TrainParams:
        plain = settings(epochs)
        sampler = plain.scratch.sampler.model_copy(update=changes.get("sampler", {}))
        schedule = plain.scratch.model_copy(update={**changes, "sampler": sampler, "course": "constant"})
        return plain.model_copy(update={"scratch": schedule, "loss": loss})

    whole = fit(fresh(), photos, tmp_path / "whole", chosen(8))
    assert whole.history[whole.best_epoch - 1]["validation_accuracy"] >= 0.9
    fit(fresh(), photos, tmp_path / "parts", chosen(3))
    resumed = fit(fresh(), photos, tmp_path / "parts", chosen(8))
    assert resumed.history == whole.history
    assert equal(resumed.embedder, whole.embedder)


def test_a_run_that_was_cut_off_goes_on_to_the_same_bytes(
    tmp_path: Path, photos: Photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit(fresh(), photos, tmp_path / "whole", settings(4))
    with cut_off(monkeypatch, epoch=2):
        fit(fresh(), photos, tmp_path / "cut", settings(4))
    for keep in ("cut", "whole"):  # in the middle of an epoch, and after the last
        resumed = fit(fresh(), photos, tmp_path / keep, settings(4))
        assert equal(resumed.embedder, whole.embedder)
        assert resumed.history == whole.history


@pytest.mark.parametrize("changes", [{}, {"class_share": 0.6, "average": 0.9, "accumulate": 2}])
def test_a_run_cut_off_in_an_epoch_goes_on_from_its_last_step(
    tmp_path: Path, photos: Photos, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    plain = settings(3)
    schedule = plain.scratch.model_copy(update={"batch_size": 2, **changes})
    params = plain.model_copy(update={"scratch": schedule, "checkpoint_steps": 2})

    def run(keep: str) -> Trained:
        torch.manual_seed(0)
        embedder = make_embedder("test_resnet", "none", "auto", "dropout_linear", 8, 32, 64, 10.0, "centre")
        return fit(embedder, photos, tmp_path / keep, params)

    whole, read = run("whole"), list[int]()

    def cut(epoch: int, position: int) -> None:
        read.append(epoch)
        if read.count(1) == 20:
            raise Cut

    with watched(monkeypatch, cut):
        with pytest.raises(Cut):
            run("cut")
        read.clear()
        resumed = run("cut")
    assert 0 < read.count(1) <= 12  # of 24: what was done is not done again
    assert resumed.history == whole.history
    assert equal(resumed.embedder, whole.embedder)
    assert resumed.head is not None
    assert whole.head is not None
    assert all(torch.equal(a, b) for a, b in zip(resumed.head.parameters(), whole.head.parameters(), strict=True))


def test_by_made_up_scores_training_stops_when_they_no_longer_rise_and_gives_the_last_of_the_best(
    tmp_path: Path, photos: Photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scored(epochs: int) -> Trained:
        course = iter([0.5, 0.5, 0.3, 0.2, 0.1, 0.1])
        monkeypatch.setattr(loop, "validate", lambda *_: {"validation_gap": next(course), "validation_accuracy": 0.0})
        plain = settings(epochs)
        constant = plain.scratch.model_copy(update={"course": "constant"})
        patient = plain.model_copy(update={"scratch": constant, "patience": 2})
        return fit(fresh(), photos, tmp_path / str(epochs), patient)

    stopped = scored(6)
    assert (len(stopped.history), stopped.best_epoch) == (4, 2)
    assert equal(stopped.embedder, scored(2).embedder)


def test_without_validation_photos_all_epochs_are_trained_and_the_last_is_kept(tmp_path: Path, photos: Photos) -> None:
    (tmp_path / "keep").mkdir()
    nobody = Photos([], np.zeros(0, np.int64))
    patient = settings(4).model_copy(update={"patience": 1})
    trained = train(fresh(), photos, nobody, patient, "fp32", 5, tmp_path / "keep", lambda row: None)
    assert (len(trained.history), trained.best_epoch) == (4, 4)
    assert equal(trained.embedder, fit(fresh(), photos, tmp_path / "whole", settings(4)).embedder)


def gap_by_hand(scores: Sequence[float], right: Sequence[bool], landmarks: int) -> float:
    """Each right answer counts the precision down to it."""
    order = sorted(range(len(scores)), key=lambda at: -scores[at])
    precisions = [sum(right[other] for other in order[: place + 1]) / (place + 1) for place in range(len(order))]
    return sum(precisions[place] for place, at in enumerate(order) if right[at]) / landmarks


@pytest.mark.parametrize("blockwise", [False, True])
def test_validation_is_gap_and_accuracy_over_landmark_photos_with_distractors_among_them(
    photos: Photos, monkeypatch: pytest.MonkeyPatch, blockwise: bool
) -> None:
    side = Photos(photos.locations, np.where(np.arange(24) % 4 == 3, -1, photos.classes))
    network = Network(fresh(), ArcFace(8, 3, 30.0, 0.3)).eval()
    (images,) = plain_batches(side.locations, network.embedder.config.preprocessing, 24)
    with torch.no_grad():
        top = network.head.scores(network.embedder.features(images)).max(dim=1)
    right = [best == true for best, true in zip(top.indices.tolist(), side.classes.tolist(), strict=True)]
    assert 0 < sum(right) < 18
    if blockwise:  # of two classes and two batches of photos; one batch is left over
        monkeypatch.setattr(loop, "CLASS_BLOCK", 2)
        monkeypatch.setattr(base, "CLASS_BLOCK", 2)
        monkeypatch.setattr(loop, "VALIDATED_TOGETHER", 10)
    found = validate(network, side, settings(1).scratch, "fp32")
    wanted = {"validation_gap": gap_by_hand(top.values.tolist(), right, 18), "validation_accuracy": sum(right) / 18}
    assert found == pytest.approx(wanted, rel=1e-9)


def test_the_last_step_of_an_epoch_has_the_mean_of_the_batches_that_it_has(tmp_path: Path, photos: Photos) -> None:
    def after(accumulate: int) -> Embedder:
        plain = settings(1)
        changes = {"batch_size": 8, "accumulate": accumulate, "optimiser": "sgd", "clip_norm": None}
        schedule = plain.scratch.model_copy(update=changes)
        return fit(fresh(), photos, tmp_path / str(accumulate), plain.model_copy(update={"scratch": schedule})).embedder

    assert equal(after(3), after(1000))  # three batches are all that there are


def test_frozen_features_without_a_neck_leave_the_rows_of_the_head_to_learn(tmp_path: Path, photos: Photos) -> None:
    plain = settings(4)
    changes = {"backbone_lr": 0.0, "class_share": 0.6, "average": 0.9, "head_lr": 0.1}
    params = plain.model_copy(update={"scratch": plain.scratch.model_copy(update=changes), "neck": "none"})
    torch.manual_seed(0)
    embedder = make_embedder("test_resnet", "none", "mean", "none", None, 32, 64, 10.0, "centre")
    trained = fit(embedder, photos, tmp_path, params)
    assert trained.history[-1]["train_loss"] < trained.history[0]["train_loss"]


def test_a_rate_falls_with_steps_however_many_batches_they_have(tmp_path: Path, photos: Photos) -> None:
    plain = settings(4)
    changes = {"accumulate": 2, "course": "exponential", "warmup_epochs": 0.0, "head_lr": 0.5}
    params = plain.model_copy(update={"scratch": plain.scratch.model_copy(update=changes)})
    fit(fresh(), photos, tmp_path / "keep", params)
    saved = load_checkpoint(tmp_path / "keep" / CHECKPOINT_FILE)
    assert saved is not None
    shares = [group["lr"] / group["full_lr"] for group in saved["optimiser"]["param_groups"]]
    last = 0.96 ** (7 / 100)  # of 8 steps: two in each epoch of three batches
    assert shares == pytest.approx([last] * len(shares), rel=1e-9)


def test_training_that_diverges_says_where_and_what_holds_it_back(tmp_path: Path, photos: Photos) -> None:
    plain = settings(2)
    changes = {"head_lr": 1e38, "backbone_lr": 1e38, "clip_norm": None, "optimiser": "sgd", "warmup_epochs": 0.0}
    params = plain.model_copy(update={"scratch": plain.scratch.model_copy(update=changes), "loss": "softmax"})
    wanted = r"epoch 1, batch 2 is nan; lower train\.scratch\.head_lr or train\.scratch\.backbone_lr, .*clip_norm"
    with pytest.raises(ValueError, match=wanted):
        fit(fresh(), photos, tmp_path / "keep", params)
    assert not (tmp_path / "keep" / CHECKPOINT_FILE).exists()


def test_a_batch_of_more_classes_than_there_are_has_all_of_them(tmp_path: Path, photos: Photos) -> None:
    """Of 3 classes, 12 x 2 photos are 3 x 8."""

    def history(classes: int, images: int) -> list[dict[str, float]]:
        plain = settings(1)
        sampler = plain.scratch.sampler.model_copy(update={"name": "classes", "classes": classes, "images": images})
        params = plain.model_copy(update={"scratch": plain.scratch.model_copy(update={"sampler": sampler})})
        return fit(fresh(), photos, tmp_path / f"keep{classes}", params).history

    assert history(12, 2) == history(3, 8)


def test_a_start_looks_at_some_photos_of_each_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "START_PHOTOS", 6)
    assert looked_at(np.array([0, 0, 0, 0, 0, 2, 1, 2])).tolist() == [0, 1, 2, 5, 6, 7]
    assert looked_at(np.arange(9)[::-1].copy()).tolist() == list(range(9))
    assert looked_at(np.array([1, 0, 0])).tolist() == [0, 1, 2]


def test_without_training_a_linear_neck_whitens_what_the_backbone_sees(photos: Photos) -> None:
    params = settings(1).model_copy(update={"loss": "none", "weights": "given.safetensors"})
    embedder, plain = unfitted(fresh(), photos, params, "fp32"), fresh().eval()
    lay_out(plain, torch.device("cpu"))  # sums have another order in another layout
    features, _ = pooled_features(plain, photos, params, "fp32")
    lay_back(plain)
    start_neck(plain.neck, features.numpy())
    assert equal(embedder, plain)
    assert not equal(embedder, fresh())
    random = params.model_copy(update={"start": "random"})
    assert equal(unfitted(fresh(), photos, random, "fp32"), fresh())


def test_augmentation_depends_on_seed_epoch_position_and_repetition_alone(photos: Photos) -> None:
    how = fresh().config.preprocessing
    augment = settings(1).scratch.augment

    def pixels(seed: int, epoch: int, before: int) -> torch.Tensor:
        data = AugmentedPhotos(photos.locations, how, augment, seed)
        data.epoch = epoch
        torch.manual_seed(np.random.default_rng().integers(1000).item())
        return data[0, before]

    assert torch.equal(pixels(1, 0, 0), pixels(1, 0, 0))
    for other in ((2, 0, 0), (1, 1, 0), (1, 0, 1)):
        assert not torch.equal(pixels(1, 0, 0), pixels(*other))


def test_fewer_photos_than_a_batch_are_trained_on(photos: Photos, tmp_path: Path) -> None:
    few = Photos(photos.locations[:6], photos.classes[:6])
    trained = fit(fresh(), few, tmp_path / "keep", settings(2))
    assert len(trained.history) == 2
    assert all(np.isfinite(row["train_loss"]) for row in trained.history)
