"""Photos made for the tests of cleaning."""

from __future__ import annotations

import numpy as np
from PIL import Image


def scene(seed: int, width: int = 120, height: int = 90) -> Image.Image:
    """A smooth random picture: unlike any of another seed, and still itself when it is resized."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
