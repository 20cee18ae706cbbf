"""The container's entry: what it refuses, and that it becomes the real server, here the one without a container."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from serving.tiny_repository import Tiny
from tritonclient import grpc

from cairn.client import Answer, Client, ServerUnavailable
from cairn.serving.control import HEADER, KEY_VARIABLE
from cairn.serving.entry import main
from cairn.serving.runtime import find_server_env, lay_out
from cairn.serving.server import default_server_env, free_ports

KEY = "0123456789abcdef"


def test_it_becomes_the_server_whose_key_is_given(tiny: Tiny, tmp_path: Path) -> None:
    """The process stays the same one, as a container's first must, and the key opens what is closed."""
    env = find_server_env(default_server_env())
    layout = lay_out(env, tmp_path)
    ports = free_ports()
    options = [f"--{name}-port={port}" for name, port in ports._asdict().items()]
    options += [f"--repository={tiny.repository}", f"--photos={tiny.photos}", "--embedder=python", "--host=127.0.0.1"]
    options += ["--metrics-host=127.0.0.1", "--", f"--backend-directory={layout.backends}"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "cairn.serving.entry", *options],
            env={
                **os.environ,
                "PATH": f"{tmp_path}:{env.root / 'bin'}:{os.environ['PATH']}",
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
            (got,) = client.query([tiny.known[5]])
        assert isinstance(got, Answer)
        assert got.landmark_id == 5
        assert Path(f"/proc/{process.pid}/cmdline").read_bytes().startswith(b"tritonserver\0")
        assert KEY_VARIABLE.encode() not in Path(f"/proc/{process.pid}/environ").read_bytes()
        control = grpc.InferenceServerClient(f"127.0.0.1:{ports.grpc}")
        served = {model.name for model in control.get_model_repository_index({HEADER: KEY}).models}
        assert served >= {"landmark", "embed", "preprocess", "retrieve"}
    finally:
        process.terminate()
        assert process.wait(60) == 0


def wait_for(client: Client, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < end:
        try:
            client.check()
            return
        except ServerUnavailable:
            time.sleep(0.2)
    raise AssertionError(f"the server did not become ready; status {process.poll()}")


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
