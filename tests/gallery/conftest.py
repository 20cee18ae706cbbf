"""A tiny repository of its own for each test of the gallery: they change it."""

from __future__ import annotations

from pathlib import Path

import pytest
from gallery.made_gallery import Place, make_place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path)
