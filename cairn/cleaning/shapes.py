"""Photos that are broken, too small, or of too extreme a shape."""

from __future__ import annotations

from cairn.cleaning.inspection import Look
from cairn.cleaning.reasons import TOO_EXTREME, TOO_SMALL, UNDECODABLE, Dropped
from cairn.params import CleanParams


def drop_by_shape(looks: list[Look], params: CleanParams) -> Dropped:
    """The photos set aside for what they are in themselves."""
    dropped: Dropped = {}
    for look in looks:
        if look.error:
            dropped[look.image_id] = (UNDECODABLE, look.error)
        elif min(look.width, look.height) < params.min_side:
            dropped[look.image_id] = (TOO_SMALL, f"{look.width} x {look.height} pixels")
        elif max(look.width, look.height) > params.max_aspect * min(look.width, look.height):
            dropped[look.image_id] = (TOO_EXTREME, f"{look.width} x {look.height} pixels")
    return dropped
