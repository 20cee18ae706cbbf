"""A tiny model repository and a real Triton server on it, started once for all tests that ask for them.

Without the server's environment these tests fail, and say `make setup`: a skipped server would look like a tested one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from cairn.serving.server import default_server_env, running_server

if TYPE_CHECKING:
    from serving.tiny_repository import Tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    from serving.tiny_repository import build_tiny

    return build_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_server(tiny: Tiny) -> Iterator[str]:
    """The gRPC address, host:port."""
    with running_server(tiny.repository, default_server_env()) as address:
        yield address
