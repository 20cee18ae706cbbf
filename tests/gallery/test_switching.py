"""Publishing while a real server answers: no request fails, and every answer is from one version of the index."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from client.between import between
from gallery.made_gallery import NAME, Place, make_place, query
from grpc import StatusCode
from onnx import numpy_helper
from serving.tiny_repository import NAMES

from cairn.client import Answer, Client
from cairn.gallery.changes import FIRST_ID
from cairn.gallery.versions import numbers
from cairn.serving.control import FILE, HEADER, KEY_VARIABLE, Control, read, write
from cairn.serving.server import LOOPBACK, Server, default_server_env, free_ports, started

CLIENTS = 3
TURN_S = 0.5  # of questions between two publications


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, Server]]:
    """A server of this module's own: what it serves changes."""
    place = make_place(tmp_path_factory.mktemp("switching"))
    folder = tmp_path_factory.mktemp("serve")
    with started(place.tiny.repository, default_server_env(), folder, free_ports(), LOOPBACK) as server:
        yield place, server


def publish(serving: tuple[Place, Server], *arguments: str) -> int:
    place, server = serving
    return place.run("publish", "--server-folder", server.folder, *arguments)


class Asking(threading.Thread):
    """Asks for the same photo again and again."""

    def __init__(self, address: str, photo: bytes) -> None:
        super().__init__()
        self.address, self.photo, self.enough = address, photo, threading.Event()
        self.got: list[object] = []

    def run(self) -> None:
        with Client(self.address) as client:
            while not self.enough.is_set():
                try:
                    self.got += client.query([self.photo])
                except Exception as error:  # noqa: BLE001 - whatever it is, it is a request that failed
                    self.got.append(error)


def wait_for(asking: list[Asking], version: int) -> None:
    """Until every client has an answer of that version."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        newest = [one.got[-1] if one.got else None for one in asking]
        if all(isinstance(got, Answer) and got.index_version == version for got in newest):
            return
        time.sleep(0.05)
    raise AssertionError(f"no answer of version {version}: {[one.got[-1:] for one in asking]}")


def test_no_request_fails_and_no_answer_is_mixed(serving: tuple[Place, Server]) -> None:
    place, server = serving
    before = numbers(place.tiny.repository)[-1]
    asking = [Asking(server.address, query(13, seed)) for seed in range(CLIENTS)]
    for one in asking:
        one.start()
    try:
        wait_for(asking, before)
        assert place.run("add", NAME, place.photos) == 0
        for arguments in ([], ["--back"], ["--version", str(before + 1)], []):
            assert publish(serving, *arguments) == 0
            wait_for(asking, numbers(place.tiny.repository)[-1])
            time.sleep(TURN_S)
    finally:
        for one in asking:
            one.enough.set()
        for one in asking:
            one.join()
    knows = {before: False, before + 1: True, before + 2: False, before + 3: True, before + 4: True}
    for one in asking:
        answers = [each for each in one.got if isinstance(each, Answer)]
        assert len(answers) == len(one.got), [each for each in one.got if not isinstance(each, Answer)]
        for each in answers:
            known = knows[each.index_version]
            assert (each.landmark_id, each.landmark) == ((FIRST_ID, NAME) if known else (None, None))
            assert sum(near.landmark_id == FIRST_ID for near in each.neighbours) == (6 if known else 0)
            assert all(near.landmark == NAME for near in each.neighbours if near.landmark_id == FIRST_ID)
        versions = [each.index_version for each in answers]
        assert versions == sorted(versions)
        assert set(versions) == set(knows)


def test_the_server_shows_what_was_added(serving: tuple[Place, Server]) -> None:
    place, server = serving
    assert place.run("add", NAME, place.photos) == 0
    assert publish(serving) == 0
    wanted = {path.read_bytes() for path in place.photos.iterdir()}
    with Client(server.address) as client:
        (answer,) = client.query([query(13)])
        assert {client.photo(near.image_id) for near in answer.neighbours if near.landmark == NAME} == wanted


def test_what_is_removed_is_answered_no_more(serving: tuple[Place, Server]) -> None:
    place, server = serving
    with Client(server.address) as client:
        assert client.query([query(8)])[0].landmark_id == 8
        assert place.run("remove", "--landmark", NAMES[8]) == 0
        assert publish(serving) == 0
        (answer,) = client.query([query(8)])
    assert answer.landmark_id is None
    assert all(near.landmark_id != 8 for near in answer.neighbours)


def test_a_server_that_cannot_be_told(
    serving: tuple[Place, Server], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, server = serving
    newest = numbers(place.tiny.repository)[-1]
    write(tmp_path, Control(server.address, HEADER, "not the key"))
    assert place.run("publish", "--server-folder", tmp_path) == 2
    assert "the key is not this server's" in (told := capsys.readouterr().err)
    assert "the server goes on as before" in told
    assert numbers(place.tiny.repository)[-1] == newest
    nowhere = f"127.0.0.1:{free_ports().grpc}"
    write(tmp_path, Control(nowhere, HEADER, "any key"))
    assert place.run("publish", "--server-folder", tmp_path) == 1
    assert f"{nowhere}: no server answers there" in capsys.readouterr().out
    (tmp_path / FILE).unlink()
    assert place.run("publish", "--server-folder", tmp_path) == 0
    assert "a server serves it from its next start on" in capsys.readouterr().out
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert place.run("publish", "--server", server.address) == 2
    assert f"its key is needed in ${KEY_VARIABLE}" in capsys.readouterr().err


def test_a_key_in_the_environment(serving: tuple[Place, Server], monkeypatch: pytest.MonkeyPatch) -> None:
    place, server = serving
    monkeypatch.setenv(KEY_VARIABLE, read(server.folder).key)
    assert place.run("publish", "--server", server.address) == 0
    with Client(server.address) as client:
        assert client.query([query(3)])[0].index_version == numbers(place.tiny.repository)[-1]


def test_a_version_that_the_server_cannot_load_is_taken_back(
    serving: tuple[Place, Server], capsys: pytest.CaptureFixture[str]
) -> None:
    """Here it can be opened, there it cannot: its code asks for what the server has not."""
    place, server = serving
    newest = numbers(place.tiny.repository)[-1]
    code = place.version(1) / "model.py"
    whole = code.read_text()
    code.unlink()
    code.write_text(f"{whole}\nimport no_such_module\n")
    try:
        assert publish(serving) == 2
    finally:
        code.unlink()
        code.write_text(whole)
    assert "No module named 'no_such_module'" in capsys.readouterr().err
    assert numbers(place.tiny.repository)[-1] == newest
    with Client(server.address) as client:
        assert client.query([query(3)])[0].index_version == newest
    assert publish(serving) == 0
    assert numbers(place.tiny.repository)[-1] == newest + 2  # the server may know the other one by its number


def test_a_server_that_has_the_newest_version_needs_no_older_ones(serving: tuple[Place, Server]) -> None:
    place, _ = serving
    before = numbers(place.tiny.repository)[-1]
    for _ in range(4):
        assert publish(serving) == 0
    assert numbers(place.tiny.repository) == [1, before + 2, before + 3, before + 4]
    assert publish(serving, "--keep", "1") == 0
    assert numbers(place.tiny.repository) == [1, before + 5]


def test_a_full_queue_is_no_missing_server(
    serving: tuple[Place, Server], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, server = serving
    with between(server.address) as way:
        write(tmp_path, replace(read(server.folder), address=way.address))
        way.failures = [(StatusCode.UNAVAILABLE, "Exceeds maximum queue size")]
        assert place.run("publish", "--server-folder", tmp_path) == 1
    told = capsys.readouterr().out
    assert f"{way.address}: the server is busy or not ready (Exceeds maximum queue size); try again" in told
    assert publish(serving) == 0


def test_an_index_for_a_network_that_the_server_does_not_run(
    serving: tuple[Place, Server], capsys: pytest.CaptureFixture[str]
) -> None:
    """The pipeline exported another network; the server, not started anew, would search with the old one's vectors."""
    place, server = serving
    network = place.tiny.repository / "embed" / "1" / "model.onnx"
    old, newest = network.read_bytes(), numbers(place.tiny.repository)[-1]
    model = onnx.load_from_string(old)
    matrix = numpy_helper.to_array(model.graph.initializer[0])
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.flip(matrix, 0).copy(), "matrix"))
    network.write_bytes(model.SerializeToString())
    try:
        assert publish(serving) == 1
    finally:
        network.write_bytes(old)
    assert "the server runs another network than the repository's" in capsys.readouterr().out
    with Client(server.address) as client:
        assert client.query([query(3)])[0].index_version == newest
    assert publish(serving) == 0
