"""The reasons for which a photo is set aside, in the order in which they are looked for: each photo gets the first."""

from __future__ import annotations

UNDECODABLE = "undecodable"
TOO_SMALL = "too small"
TOO_EXTREME = "too extreme a shape"
INDOOR = "outvoted as indoor"
LABEL_CONFLICT = "label conflict of identical photos"
EXACT_DUPLICATE = "exact duplicate"
NEAR_DUPLICATE = "near duplicate"
SMALL_CLASS = "class below the minimum"

REASONS = (
    UNDECODABLE,
    TOO_SMALL,
    TOO_EXTREME,
    INDOOR,
    LABEL_CONFLICT,
    EXACT_DUPLICATE,
    NEAR_DUPLICATE,
    SMALL_CLASS,
)

Dropped = dict[str, tuple[str, str]]  # image id -> reason, evidence
