"""The reasons for which a photo is set aside, in the order in which they are looked for: each photo gets the first."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

UNDECODABLE = "undecodable"
TOO_SMALL = "too small"
TOO_EXTREME = "too extreme a shape"
LABEL_CONFLICT = "label conflict of identical photos"
EXACT_DUPLICATE = "exact duplicate"
NEAR_DUPLICATE = "near duplicate"
SMALL_CLASS = "class below the minimum"

REASONS = (
    UNDECODABLE,
    TOO_SMALL,
    TOO_EXTREME,
    LABEL_CONFLICT,
    EXACT_DUPLICATE,
    NEAR_DUPLICATE,
    SMALL_CLASS,
)

Dropped: TypeAlias = pa.Table  # row int64 (of the manifest, in order of image id), reason string, evidence string


def dropped(rows: NDArray[np.int64] | list[int], reason: str, evidence: pa.Array | list[str]) -> Dropped:
    """The photos of `rows`, int64 [dropped], set aside for one reason; evidence: string [dropped]."""
    columns = {"row": pa.array(rows, pa.int64()), "reason": pa.repeat(reason, len(rows))}
    return pa.table(columns | {"evidence": pa.array(evidence, pa.string())})
