"""The gRPC client against the real server. Whether the answers are right is tests/serving/test_server.py's question."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from client.between import INFER, between
from serving.certificates import Authority
from serving.tiny_repository import DIMENSIONS, NAMES, Tiny

from cairn.client import Answer, Client, Options, PhotoError, ServerUnavailable, Tls, wire
from cairn.client.options import IN_FLIGHT, LARGEST_BATCH, MAX_PHOTO_MB, PHOTOS_A_REQUEST
from cairn.serving import preparing
from cairn.serving.server import free_ports

AWAY = (grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")


def test_more_photos_than_under_way_come_back_in_order(tiny: Tiny, tiny_server: str) -> None:
    order = np.random.default_rng(0).choice(list(tiny.known), 3 * IN_FLIGHT * PHOTOS_A_REQUEST).tolist()
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
    assert taken <= (IN_FLIGHT + 3) * PHOTOS_A_REQUEST


def test_what_an_answer_holds(tiny: Tiny, tiny_server: str) -> None:
    with Client(tiny_server) as client:
        (got,) = client.query([tiny.known[3]])
    assert isinstance(got, Answer)
    assert (got.landmark_id, got.landmark, got.index_version) == (3, NAMES[3], 1)
    assert {near.landmark for near in got.neighbours if near.landmark_id == 3} == {NAMES[3]}
    assert all(isinstance(near.attribution, str) for near in got.neighbours)


def test_no_landmark(tiny: Tiny, tiny_server: str) -> None:
    with Client(tiny_server) as client:
        (got,) = client.query([tiny.unknown])
    assert isinstance(got, Answer)
    assert (got.landmark_id, got.landmark) == (None, None)
    assert len(got.neighbours) == 10
    scores = [neighbour.score for neighbour in got.neighbours]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("photos_a_request", [2, 3, PHOTOS_A_REQUEST, LARGEST_BATCH])
def test_several_photos_a_request_change_no_answer_and_no_reason(
    tiny: Tiny, tiny_server: str, photos_a_request: int
) -> None:
    """A request of several, some broken; one of nothing but broken ones; one too large to be sent between them."""
    photos = [tiny.known[3], b"", tiny.known[5], b"no photo", b"", bytes(30_000), tiny.unknown, tiny.known[8], b""]
    with Client(tiny_server, options=Options(max_photo_mb=0.02, photos_a_request=1)) as client:
        wanted = client.query(photos)
    with Client(tiny_server, options=Options(max_photo_mb=0.02, photos_a_request=photos_a_request)) as client:
        got = client.query(photos)
    assert [type(item) for item in got] == [type(item) for item in wanted]
    for one, other in zip(got, wanted, strict=True):
        if isinstance(one, Answer) and isinstance(other, Answer):
            assert one.landmark_id == other.landmark_id
            assert [near.image_id for near in one.neighbours] == [near.image_id for near in other.neighbours]
            assert one.score == pytest.approx(other.score, abs=1e-5)
        else:
            assert str(one) == str(other)
    assert [item.landmark_id for item in got if isinstance(item, Answer)] == [3, 5, None, 8]
    assert str(got[5]) == "0.0 MB, over the limit of 0.02 MB"


def test_a_photo_the_server_would_refuse_is_not_sent() -> None:
    assert MAX_PHOTO_MB == preparing.MAX_PHOTO_MB
    with Client(f"127.0.0.1:{free_ports().grpc}") as client:
        (got,) = client.query([bytes(int(MAX_PHOTO_MB * 1e6) + 1)])
        with pytest.raises(PhotoError, match="over the limit of 64 MB"):
            client.verify(bytes(int(MAX_PHOTO_MB * 1e6) + 1))
    assert str(got) == "64.0 MB, over the limit of 64 MB"


def test_a_photo_of_the_index_matches_itself_point_by_point(tiny: Tiny, tiny_server: str) -> None:
    with Client(tiny_server) as client:
        (answer,) = client.query([tiny.known[5]])
        assert isinstance(answer, Answer)
        own = client.photo(answer.neighbours[0].image_id)
        got = client.verify(own, check=2)
        again = client.verify(own, check=1)
    assert got.answer.neighbours[0].image_id == answer.neighbours[0].image_id
    assert got.answer.landmark_id == 5
    assert got.inliers[2:] == [None] * (len(got.answer.neighbours) - 2)
    first, second = got.inliers[:2]
    assert first is not None
    assert second is not None
    assert first > max(second, 5)
    own_points = [match for match in got.matches if match.neighbour == 0]
    assert len(own_points) == first
    np.testing.assert_allclose([m[1:3] for m in own_points], [m[3:5] for m in own_points], atol=0.01)
    assert all(0 <= share <= 1 for match in got.matches for share in match[1:])
    assert again.inliers[:2] == [first, None]


def test_what_cannot_be_verified_or_shown_says_why(tiny: Tiny, tiny_server: str) -> None:
    with Client(tiny_server) as client:
        with pytest.raises(PhotoError, match="image id 'nothing'"):
            client.photo("nothing")
        with pytest.raises(PhotoError, match="empty file") as caught:
            client.verify(b"")
        assert caught.value.request_id
        with pytest.raises(PhotoError, match="check = 11"):
            client.verify(tiny.known[3], check=11)
        got = list(client.verify_stream([tiny.known[3], b"", tiny.unknown], check=1))
    assert [isinstance(item, PhotoError) for item in got] == [False, True, False]


def test_embeddings_are_unit_vectors(tiny: Tiny, tiny_server: str) -> None:
    with Client(tiny_server) as client:
        got = client.embeddings(list(tiny.known.values()))
        assert client.embeddings([]).shape == (0, 0)
    assert (got.shape, got.dtype) == ((3, DIMENSIONS), np.float32)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("photos_a_request", [1, 3])
def test_embeddings_name_the_broken_photo(tiny: Tiny, tiny_server: str, photos_a_request: int) -> None:
    with (
        Client(tiny_server, options=Options(photos_a_request=photos_a_request)) as client,
        pytest.raises(PhotoError, match="photo 1: empty file"),
    ):
        client.embeddings([tiny.known[3], b"", tiny.known[5]])


def test_no_photos(tiny_server: str) -> None:
    with Client(tiny_server) as client:
        assert client.query([]) == []


def test_no_server(tiny: Tiny) -> None:
    address = f"127.0.0.1:{free_ports().grpc}"
    with Client(address) as client:
        with pytest.raises(ServerUnavailable, match=f"{address}: no server answers there; start one with `make serve`"):
            client.check()
        with pytest.raises(ServerUnavailable, match=r"no server answers there.* \(request [0-9a-f]{8}-\d+\)"):
            client.query([tiny.unknown])


def test_too_little_time(tiny: Tiny, tiny_server: str) -> None:
    with (
        Client(tiny_server, timeout_s=1e-6) as client,
        pytest.raises(ServerUnavailable, match="no answer within 1e-06 s"),
    ):
        client.query([tiny.unknown])


def test_a_server_that_never_greets_is_given_up_in_time(tiny: Tiny) -> None:
    """It takes the connection and says nothing, as behind a firewall."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        start = time.monotonic()
        with Client(address, options=Options(connect_timeout_s=0.5, attempts=1)) as client:
            with pytest.raises(ServerUnavailable, match=f"{address}: no"):
                client.query([tiny.unknown])
            with pytest.raises(ServerUnavailable, match=f"{address}: no"):
                client.check()
    assert time.monotonic() - start < 20


NEVER_ANSWERS = """
import time
from concurrent.futures import ThreadPoolExecutor
import grpc

class Asked(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(self.answer)

    def answer(self, request, context):
        print("asked", flush=True)
        time.sleep(60)

server = grpc.server(ThreadPoolExecutor(1), handlers=[Asked()])
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination()
"""


def test_a_server_that_is_killed_while_it_is_asked(tiny: Tiny) -> None:
    with subprocess.Popen([sys.executable, "-c", NEVER_ANSWERS], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = f"127.0.0.1:{int(server.stdout.readline())}"
        with ThreadPoolExecutor(1) as pool, Client(address, options=Options(first_wait_s=0.01)) as client:
            asking = pool.submit(client.query, [tiny.unknown])
            assert server.stdout.readline() == "asked\n"
            server.kill()
            with pytest.raises(ServerUnavailable, match=rf"{address}: no server answers there.* \(request"):
                asking.result()


def test_a_server_that_is_back_in_time_is_asked_again_under_the_same_id(tiny: Tiny, tiny_server: str) -> None:
    with between(tiny_server) as way, Client(way.address, options=Options(first_wait_s=0.01)) as client:
        way.failures = [AWAY, AWAY]
        (got,) = client.query([tiny.known[5]])
        assert isinstance(got, Answer)
        assert got.landmark_id == 5
    assert way.calls[INFER] == 3
    assert len(set(way.request_ids)) == 1


def test_attempts_come_to_an_end(tiny: Tiny, tiny_server: str) -> None:
    with between(tiny_server) as way, Client(way.address, options=Options(attempts=2, first_wait_s=0.01)) as client:
        way.failures = [AWAY] * 5
        with pytest.raises(ServerUnavailable, match=r"Exceeds maximum queue size .*UNAVAILABLE.* \(request"):
            client.query([tiny.known[5]])
    assert way.calls[INFER] == 2


def test_attempts_end_with_the_photos_time(tiny: Tiny, tiny_server: str) -> None:
    start = time.monotonic()
    with between(tiny_server) as way, Client(way.address, 5.0, Options(attempts=99, first_wait_s=1.5)) as client:
        way.failures = [AWAY] * 99
        with pytest.raises(ServerUnavailable):
            client.query([tiny.known[5]])
    assert time.monotonic() - start < 60  # 99 waits would take far longer
    assert 1 <= way.calls[INFER] <= 4


@pytest.mark.parametrize("status", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.DEADLINE_EXCEEDED])
def test_no_other_error_is_tried_again(tiny: Tiny, tiny_server: str, status: grpc.StatusCode) -> None:
    with between(tiny_server) as way, Client(way.address, options=Options(first_wait_s=0.01)) as client:
        way.failures = [(status, "because")]
        if status == grpc.StatusCode.INVALID_ARGUMENT:
            (got,) = client.query([tiny.known[5]])
            assert isinstance(got, PhotoError)
            assert (str(got), got.request_id) == ("because", way.request_ids[0])
        else:
            with pytest.raises(ServerUnavailable, match="no answer within 30 s"):
                client.query([tiny.known[5]])
    assert way.calls[INFER] == 1


def test_requests_have_ids_of_their_own(tiny: Tiny, tiny_server: str) -> None:
    with between(tiny_server) as way:
        for _ in range(2):
            with Client(way.address, options=Options(photos_a_request=1)) as client:
                client.query([tiny.known[5]] * 5)
    assert len(set(way.request_ids)) == 10


def test_another_versions_server_is_named_as_one(tiny: Tiny, tiny_server: str) -> None:
    with Client(tiny_server) as client:
        result = client._triton.infer("preprocess", [wire.ask_landmark([tiny.known[3]]).tensor])
    (row,) = wire.rows_of(result)
    assert not isinstance(row, PhotoError)
    with pytest.raises(ServerUnavailable, match=r"gives no `landmark_id` with its answers, only .*image"):
        wire.answer_of(row)


def test_over_tls(tiny: Tiny, tiny_server: str, tmp_path: Path) -> None:
    """The server asks for a certificate too."""
    authority = Authority()
    ca, (certificate, key), own = (
        tmp_path / "ca.pem",
        authority.write(tmp_path, "server"),
        authority.write(tmp_path, "own"),
    )
    ca.write_bytes(authority.certificate)
    pair = (key.read_bytes(), certificate.read_bytes())
    with between(tiny_server, grpc.ssl_server_credentials([pair], authority.certificate, True)) as way:
        whole = Tls(ca, *own)
        with Client(way.address, options=Options(tls=whole)) as client:
            client.check()
            (got,) = client.query([tiny.known[8]])
            assert isinstance(got, Answer)
        for wrong in (None, Tls(), Tls(ca)):
            quick = Options(tls=wrong, attempts=1, connect_timeout_s=2)
            with Client(way.address, 5.0, quick) as client, pytest.raises(ServerUnavailable, match=way.address):
                client.check()


def test_options_out_of_range_are_named() -> None:
    for name, value in (("attempts", 0), ("in_flight", 0), ("photos_a_request", 65), ("connect_timeout_s", 0.0)):
        with pytest.raises(ValueError, match=f"{name} = {value}: "):
            Options(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="together or not at all"):
        Tls(key=Path("key.pem"))
