"""The gRPC client against the real server. Whether the answers are right is tests/serving/test_server.py's question."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from serving.tiny_repository import DIMENSIONS, Tiny

from cairn.client import Answer, Client, PhotoError, ServerUnavailable
from cairn.client.client import IN_FLIGHT
from cairn.serving.server import free_ports


def test_more_photos_than_under_way_come_back_in_order(tiny: Tiny, tiny_server: str) -> None:
    order = np.random.default_rng(0).choice(list(tiny.known), 5 * IN_FLIGHT).tolist()
    with Client(tiny_server) as client:
        got = client.query([tiny.known[landmark] for landmark in order])
    assert [item.landmark_id for item in got if isinstance(item, Answer)] == order


def test_photos_are_taken_as_they_are_sent(tiny: Tiny, tiny_server: str) -> None:
    taken = 0

    def photos() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield tiny.known[3]

    with Client(tiny_server) as client:
        answers = client.stream(photos())
        for _ in range(10):
            next(answers)
    assert taken <= IN_FLIGHT + 11


def test_no_landmark(tiny: Tiny, tiny_server: str) -> None:
    with Client(tiny_server) as client:
        (got,) = client.query([tiny.unknown])
    assert isinstance(got, Answer)
    assert (got.landmark_id, got.landmark) == (None, None)
    assert len(got.neighbours) == 10
    scores = [neighbour.score for neighbour in got.neighbours]
    assert scores == sorted(scores, reverse=True)


def test_embeddings_are_unit_vectors(tiny: Tiny, tiny_server: str) -> None:
    with Client(tiny_server) as client:
        got = client.embeddings(list(tiny.known.values()))
        assert client.embeddings([]).shape == (0, 0)
    assert (got.shape, got.dtype) == ((3, DIMENSIONS), np.float32)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)


def test_embeddings_name_the_broken_photo(tiny: Tiny, tiny_server: str) -> None:
    with Client(tiny_server) as client, pytest.raises(PhotoError, match="photo 1: empty file"):
        client.embeddings([tiny.known[3], b"", tiny.known[5]])


def test_no_photos(tiny_server: str) -> None:
    with Client(tiny_server) as client:
        assert client.query([]) == []


def test_no_server(tiny: Tiny) -> None:
    address = f"127.0.0.1:{free_ports().grpc}"
    with Client(address) as client:
        with pytest.raises(ServerUnavailable, match=f"{address}: no server answers there; start one with `make serve`"):
            client.check()
        with pytest.raises(ServerUnavailable, match="no server answers there"):
            client.query([tiny.unknown])


def test_too_little_time(tiny: Tiny, tiny_server: str) -> None:
    with (
        Client(tiny_server, timeout_s=1e-6) as client,
        pytest.raises(ServerUnavailable, match="no answer within 1e-06 s"),
    ):
        client.query([tiny.unknown])
