"""Photos whose decoded pixels are equal: under several labels all are set aside, under one label all but one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from cairn.cleaning.inspection import Look
from cairn.cleaning.reasons import EXACT_DUPLICATE, LABEL_CONFLICT, Dropped


def drop_identical(looks: list[Look], labels: Mapping[str, int | None]) -> Dropped:
    """Label conflicts and exact duplicates; of equals the smallest image id stays. A distractor's label is none."""
    alike: dict[str, list[str]] = defaultdict(list)
    for look in looks:
        alike[look.pixels].append(look.image_id)
    dropped: Dropped = {}
    for ids in alike.values():
        ids.sort()
        said = {labels[image_id] for image_id in ids}
        if len(said) > 1:
            names = ", ".join("none" if label is None else str(label) for label in sorted(said, key=_none_first))
            dropped.update(dict.fromkeys(ids, (LABEL_CONFLICT, f"landmarks {names} for one photo")))
        else:
            dropped.update(dict.fromkeys(ids[1:], (EXACT_DUPLICATE, f"twin of {ids[0]}")))
    return dropped


def _none_first(label: int | None) -> int:
    return -1 if label is None else label
