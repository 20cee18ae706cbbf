"""Photos that training can learn from in seconds."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from cairn.locations import Location, Photos

HUES = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    """Three classes that differ in colour, with noise."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    places, classes = [], []
    for number in range(24):
        pixels = np.clip(rng.normal(HUES[number % 3], 40, (40, 40, 3)), 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        (folder / f"{number}.png").write_bytes(buffer.getvalue())
        places.append(Location(folder, f"{number}.png", 0, len(buffer.getvalue())))
        classes.append(number % 3)
    return Photos(places, np.array(classes))
