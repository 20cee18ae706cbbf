"""Schedules where there are few landmarks or photos: batches as large, and as many photos shown as asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cairn.locations import Location, Photos
from cairn.params import SamplerParams, load_params
from cairn.training.samplers import SAMPLERS
from cairn.training.small_side import for_classes, for_side

FINETUNE = load_params(Path(__file__).parents[2] / "params.yaml").train.finetune.model_copy(
    update={"epochs": 6, "least_shown": 6400, "batch_size": 32}
)


def side(photos: int, classes: int = 3) -> Photos:
    places = [Location(Path("root"), "shard", at, 1) for at in range(photos)]
    return Photos(places, np.arange(photos, dtype=np.int64) % classes)


def sampler(name: str, classes: int = 8, images: int = 4) -> SamplerParams:
    return FINETUNE.sampler.model_copy(update={"name": name, "classes": classes, "images": images})


def test_a_batch_keeps_its_size_where_there_are_fewer_classes() -> None:
    asked = sampler("subspaces", 12, 8)
    few = for_classes(asked, 5, 1)
    assert (few.classes, few.images, few.subspaces) == (5, 19, asked.subspaces)
    assert for_classes(asked, 12, 1) == asked
    assert for_classes(sampler("shuffled"), 1, 1) == sampler("shuffled")  # no classes to count


@pytest.mark.parametrize(("classes", "processes", "images"), [(5, 4, 4), (6, 4, 4), (7, 4, 4), (2, 64, 32), (3, 1, 10)])
def test_several_processes_can_share_a_batch_of_fewer_classes(classes: int, processes: int, images: int) -> None:
    few = for_classes(sampler("classes"), classes, processes)
    assert few.images == images
    assert few.classes * few.images % processes == 0


@pytest.mark.parametrize("name", ["shuffled", "classes"])
@pytest.mark.parametrize("photos", [3, 9, 31, 33, 60, 63, 64, 127, 534, 1000, 1066, 1067])
def test_of_few_photos_as_many_are_shown_as_asked_for_in_hardly_more_epochs(photos: int, name: str) -> None:
    asked = FINETUNE.model_copy(update={"sampler": sampler(name)})
    schedule, shown = for_side(asked, side(photos), 1)
    batches = SAMPLERS[name](shown.classes, np.zeros((3, 0), np.float32), schedule, 1).batches()
    in_all = schedule.epochs * sum(len(batch) for batch in batches)
    assert 6 <= schedule.epochs <= 13
    assert 6400 <= in_all < 1.25 * 6400


def test_each_photo_is_shown_equally_often() -> None:
    schedule, shown = for_side(FINETUNE, side(100), 1)
    assert schedule.epochs == 7
    assert [place.offset for place in shown.locations] == list(range(100)) * 10
    assert shown.classes.tolist() == [at % 3 for at in range(100)] * 10


def test_enough_photos_are_shown_once_an_epoch() -> None:
    plenty = side(2000, 24)
    schedule, shown = for_side(FINETUNE, plenty, 1)
    assert schedule == FINETUNE
    assert shown is plenty
