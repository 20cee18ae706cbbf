"""What of a schedule changes where there are few landmarks or photos to train on."""

from __future__ import annotations

from cairn.params import SamplerParams, Schedule, TrainParams


def for_side(params: TrainParams, classes: int, photos: int) -> TrainParams:
    """`params` with the schedule in use as `for_classes` and `for_photos` make it; patience grows with the epochs."""
    plain = params.schedule
    sampler = for_classes(plain.sampler, classes)
    schedule = for_photos(plain.model_copy(update={"sampler": sampler}), photos)
    patience = -(-params.patience * schedule.epochs // plain.epochs)
    return params.model_copy(update={params.schedule_name: schedule, "patience": patience})


def for_classes(how: SamplerParams, classes: int) -> SamplerParams:
    """`how`, or where a batch would have photos of more classes than there are: of all, and more photos of each, so
    that it has about as many.
    """
    if how.name == "shuffled" or classes >= how.classes:
        return how
    return how.model_copy(update={"classes": classes, "images": how.classes * how.images // classes})


def for_photos(schedule: Schedule, photos: int) -> Schedule:
    """`schedule` with more epochs where its own would show fewer than `least_shown` photos."""
    return schedule.model_copy(update={"epochs": max(schedule.epochs, -(-schedule.least_shown // photos))})
