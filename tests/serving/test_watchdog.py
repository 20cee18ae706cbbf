"""A model that lost a Python process answers again, on a real server; one that its owner unloaded stays unloaded."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving.tiny_repository import Tiny
from tritonclient import grpc

from cairn.client import Answer, Client, PhotoError, ServerUnavailable
from cairn.serving import watchdog
from cairn.serving.command import LOOPBACK
from cairn.serving.control import read
from cairn.serving.server import Server, default_server_env, free_ports, started
from cairn.serving.watchdog import EVERY_S, Api, look_after, stubs

WITHIN_S = 300.0


@pytest.fixture(scope="module")
def repository(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(tiny.repository, tmp_path_factory.mktemp("repository") / "triton_repo")


@pytest.fixture(scope="module")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("watched")
    with started(repository, default_server_env(), folder, free_ports(), LOOPBACK) as found:
        yield found


def asked(address: str, photo: bytes) -> int | str | None:
    """The landmark answered, or the error."""
    with Client(address, timeout_s=60) as client:
        try:
            (got,) = client.query([photo])
        except (PhotoError, ServerUnavailable) as error:
            return str(error)
    return got.landmark_id if isinstance(got, Answer) else str(got)


@pytest.mark.parametrize("model", ["preprocess", "embed", "retrieve"])
def test_a_model_whose_process_is_killed_answers_again(
    tiny: Tiny, server: Server, model: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every process of the others stays, and the model has as many as before, all of them new."""
    before = stubs(server.process.pid)
    counts = Counter(before.values())
    assert counts["preprocess"] > 1
    os.kill(next(pid for pid, name in before.items() if name == model), signal.SIGKILL)
    end = time.monotonic() + WITHIN_S
    while time.monotonic() < end:
        time.sleep(0.2)
        after = stubs(server.process.pid)
        if Counter(after.values()) == counts and not {p for p, n in before.items() if n == model} & after.keys():
            break
    assert Counter(after.values()) == counts
    assert {pid for pid, name in after.items() if name != model} == {p for p, n in before.items() if n != model}
    while (got := asked(server.address, tiny.known[5])) != 5 and time.monotonic() < end:
        time.sleep(0.2)
    assert got == 5
    assert f"{model}: a Python process of it is gone" in capfd.readouterr().err


def test_a_model_that_its_owner_unloaded_stays_so(server: Server) -> None:
    control = read(server.folder)
    client = grpc.InferenceServerClient(control.address)
    client.unload_model("verify", headers=control.headers)
    end = time.monotonic() + WITHIN_S
    while "verify" in stubs(server.process.pid).values() and time.monotonic() < end:
        time.sleep(0.2)
    time.sleep(4 * EVERY_S)
    assert not client.is_model_ready("verify")
    assert "verify" not in stubs(server.process.pid).values()
    client.load_model("verify", headers=control.headers)
    assert client.is_model_ready("verify")


def test_a_model_that_cannot_be_loaded_is_tried_again(
    tiny: Tiny, server: Server, repository: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "AGAIN_S", 1.0)
    network = repository / "embed" / "1" / "model.onnx"
    network.rename(repository / "aside")
    os.kill(next(pid for pid, name in stubs(server.process.pid).items() if name == "embed"), signal.SIGKILL)
    end, said = time.monotonic() + WITHIN_S, ""
    while "embed: could not be loaded" not in said and time.monotonic() < end:
        time.sleep(0.2)
        said += capfd.readouterr().err
    assert "embed: could not be loaded" in said
    assert "model.onnx" in said
    (repository / "aside").rename(network)
    while (got := asked(server.address, tiny.known[5])) != 5 and time.monotonic() < end:
        time.sleep(0.2)
    assert got == 5


def kill(model: str, server: Server) -> None:
    """Come back when the model has a process less."""
    killed = next(pid for pid, name in stubs(server.process.pid).items() if name == model)
    os.kill(killed, signal.SIGKILL)
    while killed in stubs(server.process.pid):
        time.sleep(0.05)


def test_the_only_process_of_a_model_killed_before_the_first_look(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "EVERY_S", 3600.0)  # the server's own watchdog never looks
    ports, looks, told = free_ports(), iter([False, False, True]), list[str]()
    with started(tiny.repository, default_server_env(), tmp_path, ports, LOOPBACK) as server:
        kill("retrieve", server)
        api = Api(LOOPBACK, ports.http, read(server.folder).key)
        look_after(server.process.pid, api, lambda _: next(looks), told.append)
        assert [line.split(" after")[0] for line in told] == [
            "retrieve: a Python process of it is gone; loading it anew",
            "retrieve: answers again",
        ]
        assert asked(server.address, tiny.known[5]) == 5


def test_a_model_that_somebody_else_loaded_is_left_alone(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watchdog could not load it; before it tries again, what was wrong is mended and the model loaded."""
    repository = shutil.copytree(tiny.repository, tmp_path / "triton_repo")
    network, aside = repository / "embed" / "1" / "model.onnx", tmp_path / "aside"
    monkeypatch.setattr(watchdog, "EVERY_S", 3600.0)  # the server's own watchdog never looks
    ports, told, looks = free_ports(), list[str](), iter(range(5))
    loaded = dict[int, str]()
    with started(repository, default_server_env(), tmp_path / "serve", ports, LOOPBACK) as server:
        control = read(server.folder)

        def before_each_look(_: float) -> bool:
            look = next(looks)
            if look == 1:
                network.rename(aside)
                kill("embed", server)
            elif look == 3:  # two looks have seen it
                aside.rename(network)
                grpc.InferenceServerClient(control.address).load_model("embed", headers=control.headers)
                loaded.update(stubs(server.process.pid))
            return look == 4

        look_after(server.process.pid, Api(LOOPBACK, ports.http, control.key), before_each_look, told.append)
        assert "embed" in loaded.values()
        assert stubs(server.process.pid) == loaded
        assert [line[:27] for line in told] == ["embed: a Python process of ", "embed: could not be loaded "]


def test_processes_are_those_of_the_one_server() -> None:
    assert stubs(os.getpid()) == {}


def test_a_process_whose_name_is_no_text_is_looked_past() -> None:
    """The kernel keeps 15 bytes of a name, wherever a letter ends."""
    own = Path("/proc/self/comm")
    before = own.read_bytes()
    own.write_bytes("памятник".encode())
    try:
        assert b"\xd0) " in Path("/proc/self/stat").read_bytes()
        assert stubs(os.getppid()) == {}
    finally:
        own.write_bytes(before)
