"""The small world that all tests of re-rankers may look at."""

from __future__ import annotations

import pytest
from retrieval.rerankers.small_world import World, make_world


@pytest.fixture(scope="session")
def world() -> World:
    return make_world(0)
