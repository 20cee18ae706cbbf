"""How large photos are in which epoch, and which networks take them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from cairn.networks.backbones import BackboneError, make_backbone
from cairn.networks.embedder import Embedder, load_embedder, make_embedder, save_embedder
from cairn.params import Schedule, TrainParams, load_params
from cairn.training.sizes import check_sizes, size_of
from cairn.training.untrained import new_embedder, untrained

ROOT = Path(__file__).parents[2]
TRAIN = load_params(ROOT / "params.yaml").train


def schedule(epochs: int, *sizes: int) -> Schedule:
    changes = {"epochs": epochs, "image_size": 64, "progressive_sizes": sizes}
    return Schedule.model_validate(TRAIN.scratch.model_dump() | changes)


def network(backbone: str, any_size: bool) -> Embedder:
    torch.manual_seed(0)
    return make_embedder(backbone, "none", "auto", "linear", 8, 64, 64, 10.0, "centre", any_size=any_size).eval()


def test_sizes_share_the_epochs_and_the_full_size_comes_last() -> None:
    assert [size_of(epoch, schedule(6, 32, 48), 64) for epoch in range(6)] == [32, 32, 48, 48, 64, 64]
    assert [size_of(epoch, schedule(5, 32), 64) for epoch in range(5)] == [32, 32, 32, 64, 64]
    assert [size_of(epoch, schedule(3, 32, 48), 64) for epoch in range(3)] == [32, 48, 64]
    assert {size_of(epoch, schedule(4), 64) for epoch in range(4)} == {64}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"progressive_sizes": [48, 32]}, "must grow"),
        ({"progressive_sizes": [48, 112], "image_size": 112}, "must grow"),
        ({"progressive_sizes": [32, 48], "epochs": 2}, "need an epoch each"),
        ({"layer_decay": 0}, "greater than 0"),
        ({"class_weight": "cube"}, "'none', 'log' or 'sqrt'"),
    ],
)
def test_schedules_that_cannot_be_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Schedule.model_validate(TRAIN.scratch.model_dump() | changes)


@pytest.mark.parametrize(
    ("changes", "of_schedule", "said"),
    [
        ({"pooling": "max_flatten"}, {"progressive_sizes": [64]}, "pooling max_flatten takes one size only"),
        ({"loss": "triplet"}, {"class_weight": "log"}, "triplet loss has no weight"),
    ],
)
def test_what_does_not_go_together_is_refused_in_the_schedule_in_use(
    changes: dict[str, Any], of_schedule: dict[str, Any], said: str
) -> None:
    content = TRAIN.model_dump() | changes
    with pytest.raises(ValidationError, match=said):
        TrainParams.model_validate(content | {"scratch": content["scratch"] | of_schedule})
    TrainParams.model_validate(content | {"finetune": content["finetune"] | of_schedule})  # not used without weights


def test_every_size_is_tried_before_training() -> None:
    check_sizes(network("test_resnet", any_size=False), schedule(3, 40, 50))
    check_sizes(network("test_vit3", any_size=True), schedule(3, 32, 48))
    with pytest.raises(ValueError, match="cannot take photos of 48 pixels"):
        check_sizes(network("test_vit3", any_size=False), schedule(3, 48))
    with pytest.raises(ValueError, match="cannot take photos of 40 pixels"):  # no multiple of the patches' 16
        check_sizes(network("test_vit3", any_size=True), schedule(3, 32, 40))
    unknown = schedule(3, 32, 48).model_copy(update={"image_size": None, "progressive_sizes": (80,)})
    with pytest.raises(ValueError, match="80 is not smaller than image_size, 64"):
        check_sizes(network("test_resnet", any_size=False), unknown)
    with pytest.raises(BackboneError, match="beit_base_patch16_224 takes photos of one size only"):
        make_backbone("beit_base_patch16_224", "none", 224, any_size=True)


def test_the_untrained_network_is_asked_for_its_full_size_alone() -> None:
    params = load_params(ROOT / "params.yaml")
    changes = {"image_size": None, "progressive_sizes": (112,)}
    train = {"backbone": "xcit_nano_12_p16_224", "scratch": TRAIN.scratch.model_copy(update=changes)}  # has one size
    found = untrained(params.model_copy(update={"train": TRAIN.model_copy(update=train)}))
    assert found.config.preprocessing.size == 224
    with pytest.raises(BackboneError, match="takes photos of one size only"):
        new_embedder(params.model_copy(update={"train": TRAIN.model_copy(update=train)}), "linear", classes=3)


def test_a_transformer_of_any_size_is_the_same_network_and_is_saved_as_one_of_its_full_size(tmp_path: Path) -> None:
    images = torch.randn(2, 3, 64, 64)
    free, fixed = network("test_vit3", any_size=True), network("test_vit3", any_size=False)
    assert torch.equal(free(images), fixed(images))
    save_embedder(free, tmp_path)
    saved = load_embedder(tmp_path)
    assert torch.equal(saved(images), free(images))
    with pytest.raises(AssertionError):
        saved(images[:, :, :48, :48])
