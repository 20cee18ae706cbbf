"""A tiny model repository and a real Triton server on it, started once for all tests that ask for them.

Without the server's environment these tests fail, and say `make setup`: a skipped server would look like a tested one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from cairn.serving.command import LOOPBACK
from cairn.serving.server import Server, default_server_env, free_ports, started

if TYPE_CHECKING:
    from serving.tiny_repository import Tiny

settings.register_profile(
    "untimed", deadline=None, derandomize=True
)  # how long an example takes says how busy the machine is
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    from serving.tiny_repository import build_tiny

    return build_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_serving(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server itself: its log, its metrics, and the folder with the key to what it keeps closed."""
    folder = tmp_path_factory.mktemp("serve")
    with started(tiny.repository, default_server_env(), folder, free_ports(), LOOPBACK, photos=tiny.photos) as server:
        yield server


@pytest.fixture(scope="session")
def tiny_server(tiny_serving: Server) -> str:
    """The gRPC address, host:port."""
    return tiny_serving.address
