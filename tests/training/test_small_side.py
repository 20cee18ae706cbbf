"""Schedules where there are few landmarks or photos: batches as large, and as many photos shown as asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from cairn.params import load_params
from cairn.training.small_side import for_classes, for_photos, for_side

TRAIN = load_params(Path(__file__).parents[2] / "params.yaml").train


def test_a_batch_keeps_its_size_where_there_are_fewer_classes() -> None:
    how = TRAIN.scratch.sampler
    asked = how.model_copy(update={"name": "subspaces", "classes": 12, "images": 8})
    few = for_classes(asked, 5)
    assert (few.classes, few.images, few.subspaces) == (5, 19, asked.subspaces)
    assert for_classes(asked, 12) == asked
    assert for_classes(how, 1) == how  # shuffled: no classes to count


@pytest.mark.parametrize(("photos", "epochs"), [(2000, 6), (1000, 7), (320, 20), (10, 640)])
def test_few_photos_are_seen_more_often(photos: int, epochs: int) -> None:
    schedule = TRAIN.finetune.model_copy(update={"epochs": 6, "least_shown": 6400})
    assert for_photos(schedule, photos).epochs == epochs


def test_the_schedule_in_use_changes_and_its_patience_with_it() -> None:
    sampler = TRAIN.finetune.sampler.model_copy(update={"name": "classes", "classes": 8, "images": 4})
    finetune = TRAIN.finetune.model_copy(update={"epochs": 6, "least_shown": 3400, "sampler": sampler})
    params = TRAIN.model_copy(update={"weights": "hub", "finetune": finetune, "patience": 8})
    few = for_side(params, classes=4, photos=200)
    assert (few.schedule.sampler.classes, few.schedule.sampler.images) == (4, 8)
    assert (few.schedule.epochs, few.patience, few.scratch) == (17, 23, TRAIN.scratch)
    assert for_side(params, classes=24, photos=2000) == params
