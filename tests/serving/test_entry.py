"""The container's entry: what it refuses, and that it becomes the real server, here the one without a container."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from serving.tiny_repository import Tiny
from tritonclient import grpc

from cairn.client import Answer, Client, ServerUnavailable
from cairn.serving.control import HEADER, KEY_VARIABLE
from cairn.serving.entry import main
from cairn.serving.runtime import find_server_env, lay_out
from cairn.serving.server import default_server_env, free_ports
from cairn.serving.watchdog import stubs

KEY = "0123456789abcdef"


@contextmanager
def entered(tiny: Tiny, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The entry's process, once it serves, and its address."""
    env, ports = find_server_env(default_server_env()), free_ports()
    layout = lay_out(env, folder)
    options = [f"--{name}-port={port}" for name, port in ports._asdict().items()]
    options += [f"--repository={tiny.repository}", f"--photos={tiny.photos}", "--embedder=python", "--host=127.0.0.1"]
    options += ["--metrics-host=127.0.0.1", "--", f"--backend-directory={layout.backends}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "cairn.serving.entry", *options],
            env={
                **os.environ,
                "PATH": f"{folder}:{env.root / 'bin'}:{os.environ['PATH']}",
                "VIRTUAL_ENV": str(env.root),
                "LD_LIBRARY_PATH": ":".join(map(str, env.libraries)),
                KEY_VARIABLE: KEY,
            },
            stdout=log,
            stderr=log,
        )
    try:
        with Client(f"127.0.0.1:{ports.grpc}") as client:
            wait_for(client, process)
        yield process, f"127.0.0.1:{ports.grpc}"
    finally:
        process.terminate()
        assert process.wait(90) == 0


def test_it_becomes_the_server_whose_key_is_given(tiny: Tiny, tmp_path: Path) -> None:
    """The process stays the same one, as a container's first must, and the key opens what is closed."""
    with entered(tiny, tmp_path) as (process, address):
        with Client(address) as client:
            (got,) = client.query([tiny.known[5]])
        assert isinstance(got, Answer)
        assert got.landmark_id == 5
        assert Path(f"/proc/{process.pid}/cmdline").read_bytes().startswith(b"tritonserver\0")
        assert KEY_VARIABLE.encode() not in Path(f"/proc/{process.pid}/environ").read_bytes()
        control = grpc.InferenceServerClient(address)
        served = {model.name for model in control.get_model_repository_index({HEADER: KEY}).models}
        assert served >= {"landmark", "embed", "preprocess", "retrieve"}


def test_a_child_of_it_mends_a_model_whose_process_is_killed_and_ends_with_it(tiny: Tiny, tmp_path: Path) -> None:
    with entered(tiny, tmp_path) as (process, _):
        before = stubs(process.pid)
        (child,) = set(children_of(process.pid)) - before.keys()
        killed = next(pid for pid, model in before.items() if model == "retrieve")
        os.kill(killed, signal.SIGKILL)
        end = time.monotonic() + 60
        while "retrieve: answers again" not in (tmp_path / "log").read_text():
            assert time.monotonic() < end, (tmp_path / "log").read_text()[-4000:]
            time.sleep(0.2)
        after = stubs(process.pid)
        assert killed not in after
        assert sorted(after.values()) == sorted(before.values())
    end = time.monotonic() + 60
    while Path(f"/proc/{child}").exists() and time.monotonic() < end:
        time.sleep(0.2)
    assert not Path(f"/proc/{child}").exists()


def children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def wait_for(client: Client, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < end:
        try:
            client.check()
            return
        except ServerUnavailable:
            time.sleep(0.2)
    raise AssertionError(f"the server did not become ready; status {process.poll()}")


def test_a_path_that_a_shell_would_misread_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, f"--repository={tmp_path / 'a b'}")
    assert f"{tmp_path / 'a b'}: Triton starts Python models through a shell" in said


def refused(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(options) == 1
    return capsys.readouterr().err


def test_a_folder_that_is_no_repository(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"{tmp_path} is no model repository" in refused(capsys, f"--repository={tmp_path}")


def test_a_repository_without_a_plan(tiny: Tiny, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, f"--repository={tiny.repository}", "--embedder=tensorrt")
    assert "embed/1/model.plan: no such file; run `cairn plan`" in said


def test_no_server_on_the_path(
    tiny: Tiny, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    said = refused(capsys, f"--repository={tiny.repository}", "--embedder=onnxruntime")
    assert "no tritonserver on the path" in said


def test_a_key_that_is_too_short(
    tiny: Tiny, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    assert f"{KEY_VARIABLE}: at least 16" in refused(capsys, f"--repository={tiny.repository}")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tls-cert=a.pem"], "--tls-cert and --tls-key belong together"),
        (["--tls-cert=a.pem", "--tls-key=b.pem"], "a.pem: no such file"),
        (["--tls-clients=a.pem"], "--tls-clients and --tls-ca need --tls-cert"),
        (["--photos=nowhere"], "nowhere: no such folder; --photos"),
    ],
)
def test_options_that_do_not_go_together(
    tiny: Tiny, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert said in refused(capsys, f"--repository={tiny.repository}", *options)
