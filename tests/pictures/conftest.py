"""What the tests of pictures share: reading a PNG back, and photos of one colour."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def pixels(path: Path) -> np.ndarray:
    """The PNG at `path` as uint8 [height, width, 3]."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


@pytest.fixture
def where() -> Callable[[Path, str], np.ndarray]:
    """Bool [height, width]: which of a PNG's pixels are exactly of a colour."""
    return lambda path, colour: (pixels(path) == rgb(colour)).all(axis=2)


@pytest.fixture
def share_of(where: Callable[[Path, str], np.ndarray]) -> Callable[[Path, str], float]:
    """Share of a PNG's pixels that are exactly of a colour."""
    return lambda path, colour: float(where(path, colour).mean())


@pytest.fixture
def pixel() -> Callable[[Path, int, int], str]:
    """The colour, as #RRGGBB, of a PNG's pixel at (x, y)."""
    return lambda path, x, y: "#{:02X}{:02X}{:02X}".format(*pixels(path)[y, x])


@pytest.fixture
def photo() -> Callable[..., Image.Image]:
    """A photo of one colour and size."""
    return lambda colour="#3366CC", width=300, height=200: Image.new("RGB", (width, height), colour)
