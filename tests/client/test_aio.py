"""The asyncio client against the real server: all as the synchronous one does it, and many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing

import grpc
import numpy as np
import pytest
from client.between import INFER, between
from serving.tiny_repository import Tiny

from cairn.client import Answer, AsyncClient, Client, Options, PhotoError, ServerUnavailable, Verified
from cairn.client.options import IN_FLIGHT, PHOTOS_A_REQUEST
from cairn.serving.server import free_ports

AWAY = (grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")


@pytest.mark.parametrize("photos_a_request", [1, 3])
def test_outcomes_are_the_synchronous_clients(tiny: Tiny, tiny_server: str, photos_a_request: int) -> None:
    options = Options(max_photo_mb=0.02, photos_a_request=photos_a_request)
    photos = [tiny.known[3], b"", tiny.unknown, b"no photo", b"", bytes(1), bytes(30_000), tiny.known[8]] * 5

    async def ask() -> tuple[list[Answer | PhotoError], np.ndarray]:
        async with AsyncClient(tiny_server, options=options) as client:
            await client.check()
            return await client.query(photos), await client.embeddings([tiny.known[3], tiny.unknown])

    got, vectors = asyncio.run(ask())
    with Client(tiny_server, options=options) as client:
        wanted = client.query(photos)
        np.testing.assert_allclose(vectors, client.embeddings([tiny.known[3], tiny.unknown]), atol=1e-6)
    for one, other in zip(got, wanted, strict=True):
        if isinstance(one, Answer) and isinstance(other, Answer):
            assert one.landmark_id == other.landmark_id
            assert [near.image_id for near in one.neighbours] == [near.image_id for near in other.neighbours]
        else:
            assert str(one) == str(other)


def test_verified_and_shown_are_the_synchronous_clients(tiny: Tiny, tiny_server: str) -> None:
    with Client(tiny_server) as client:
        (answer,) = client.query([tiny.known[5]])
        assert isinstance(answer, Answer)
        image_id = answer.neighbours[0].image_id
        own = client.photo(image_id)
        wanted = client.verify(own, check=2)

    async def ask() -> tuple[bytes, Verified]:
        async with AsyncClient(tiny_server) as client:
            with pytest.raises(PhotoError, match="empty file"):
                await client.verify(b"")
            with pytest.raises(PhotoError, match="image id 'nothing'"):
                await client.photo("nothing")
            return await client.photo(image_id), await client.verify(own, check=2)

    shown, verified = asyncio.run(ask())
    assert shown == own
    assert (verified.inliers, verified.matches) == (wanted.inliers, wanted.matches)


def test_callers_share_a_connection(tiny: Tiny, tiny_server: str) -> None:
    async def ask() -> list[list[Answer | PhotoError]]:
        async with AsyncClient(tiny_server) as client:
            return await asyncio.gather(*(client.query([photo] * 3) for photo in tiny.known.values()))

    found = asyncio.run(ask())
    assert [[item.landmark_id for item in each if isinstance(item, Answer)] for each in found] == [
        [landmark] * 3 for landmark in tiny.known
    ]


def test_left_early_no_more_is_taken_and_nothing_is_left_running(tiny: Tiny, tiny_server: str) -> None:
    taken = 0

    def photos() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield tiny.known[3]

    async def ask() -> int:
        async with AsyncClient(tiny_server) as client:
            async with aclosing(client.stream(photos())) as answers:
                for _ in range(10):
                    await anext(answers)
            return len(asyncio.all_tasks()) - 1

    assert asyncio.run(ask()) == 0
    assert taken <= (IN_FLIGHT + 3) * PHOTOS_A_REQUEST


def test_errors_are_the_synchronous_clients(tiny: Tiny, tiny_server: str) -> None:
    async def ask(address: str, timeout_s: float, options: Options) -> list[Answer | PhotoError]:
        async with AsyncClient(address, timeout_s, options) as client:
            return await client.query([tiny.known[5]])

    quick = Options(first_wait_s=0.01)
    with between(tiny_server) as way:
        way.failures = [AWAY, AWAY]
        (got,) = asyncio.run(ask(way.address, 30, quick))
        assert isinstance(got, Answer)
        assert (way.calls[INFER], len(set(way.request_ids))) == (3, 1)
        way.failures = [AWAY] * 3
        with pytest.raises(ServerUnavailable, match="Exceeds maximum queue size"):
            asyncio.run(ask(way.address, 30, quick))
        way.failures = [(grpc.StatusCode.INVALID_ARGUMENT, "because")]
        (refused,) = asyncio.run(ask(way.address, 30, quick))
        assert isinstance(refused, PhotoError)
        assert (str(refused), refused.request_id) == ("because", way.request_ids[-1])
    with pytest.raises(ServerUnavailable, match="no answer within 1e-06 s"):
        asyncio.run(ask(tiny_server, 1e-6, quick))
    with pytest.raises(ServerUnavailable, match="no server answers there"):
        asyncio.run(ask(f"127.0.0.1:{free_ports().grpc}", 30, quick))
