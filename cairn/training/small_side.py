"""What of training changes where there are few landmarks or photos to train on."""

from __future__ import annotations

import math

import numpy as np

from cairn.locations import Photos
from cairn.params import SamplerParams, Schedule


def for_side(schedule: Schedule, side: Photos, processes: int) -> tuple[Schedule, Photos]:
    """The schedule, and the photos that an epoch shows: of a small side each several times, so that `least_shown` are
    shown in hardly more epochs than asked for, each of which is validated and saved. `processes` share each batch.
    """
    sampler = for_classes(schedule.sampler, len(np.unique(side.classes)), processes)
    photos = len(side.classes)
    passes = max(1, schedule.least_shown // max(1, schedule.epochs * photos))
    epoch = passes * photos
    shown = epoch - epoch % schedule.batch_size if epoch > schedule.batch_size else epoch
    epochs = max(schedule.epochs, -(-schedule.least_shown // shown))
    return schedule.model_copy(update={"sampler": sampler, "epochs": epochs}), side.repeated(passes)


def for_classes(how: SamplerParams, classes: int, processes: int) -> SamplerParams:
    """`how`, or where a batch would have photos of more classes than there are: of all, and more photos of each, so
    that it has about as many, and can be shared by the processes.
    """
    if how.name == "shuffled" or classes >= how.classes:
        return how
    images = how.classes * how.images // classes
    step = processes // math.gcd(classes, processes)
    return how.model_copy(update={"classes": classes, "images": max(images - images % step, step)})
