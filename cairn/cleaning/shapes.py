"""Photos that are broken, too small, or of too extreme a shape."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cairn.cleaning.looks import Looks
from cairn.cleaning.reasons import TOO_EXTREME, TOO_SMALL, UNDECODABLE, Dropped, dropped
from cairn.params import CleanParams


def drop_by_shape(looks: Looks, params: CleanParams) -> Dropped:
    """The photos set aside for what they are in themselves."""
    broken = np.array(sorted(looks.errors), np.int64)
    whole = np.ones(len(looks.widths), bool)
    whole[broken] = False
    short, long = np.minimum(looks.widths, looks.heights), np.maximum(looks.widths, looks.heights)
    small = whole & (short < params.min_side)
    extreme = np.flatnonzero(whole & ~small & (long > params.max_aspect * short))
    return pa.concat_tables(
        [
            dropped(broken, UNDECODABLE, [looks.errors[row] for row in broken.tolist()]),
            dropped(np.flatnonzero(small), TOO_SMALL, _sizes(looks, np.flatnonzero(small))),
            dropped(extreme, TOO_EXTREME, _sizes(looks, extreme)),
        ]
    )


def _sizes(looks: Looks, rows: NDArray[np.int64]) -> list[str]:
    sizes = zip(looks.widths[rows].tolist(), looks.heights[rows].tolist(), strict=True)
    return [f"{width} x {height} pixels" for width, height in sizes]
