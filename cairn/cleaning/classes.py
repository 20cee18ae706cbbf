"""Landmarks with too few photos left to be learnt or found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from cairn.cleaning.reasons import SMALL_CLASS, Dropped


def drop_small_classes(image_ids: Iterable[str], labels: Mapping[str, int | None], least: int) -> Dropped:
    """All photos of landmarks with fewer than `least` photos; distractors stay."""
    kept = [(image_id, labels[image_id]) for image_id in image_ids]
    sizes = Counter(label for _, label in kept)
    return {
        image_id: (SMALL_CLASS, f"landmark {label} has {sizes[label]} photos left")
        for image_id, label in kept
        if label is not None and sizes[label] < least
    }
