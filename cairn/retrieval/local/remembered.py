"""Features of photos that are looked at again and again, remembered within a limit of memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from cairn.retrieval.local.features import Features


def remembered(features: Callable[[int], Features], most_bytes: int) -> Callable[[int], Features]:
    """`features` of a photo's id, kept until what was asked for since takes `most_bytes`; the latest is always kept."""
    kept: OrderedDict[int, Features] = OrderedDict()
    held = 0

    def look_up(image_id: int) -> Features:
        nonlocal held
        if image_id not in kept:
            kept[image_id] = features(image_id)
            held += kept[image_id].nbytes
        kept.move_to_end(image_id)
        while held > most_bytes and len(kept) > 1:
            held -= kept.popitem(last=False)[1].nbytes
        return kept[image_id]

    return look_up
