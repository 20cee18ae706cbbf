"""The real Triton server over real gRPC: its answers, its errors, its end."""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from serving.tiny_repository import NAMES, PREPROCESSING, RULE, Tiny, embed_offline, photo
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from cairn.answering.preprocess import prepare
from cairn.client import Answer, Client, PhotoError
from cairn.manifest import as_image_id
from cairn.retrieval.answer import answered
from cairn.retrieval.context import CONTEXT_FOLDER, open_context
from cairn.retrieval.index import PhotoIndex
from cairn.retrieval.rerankers.chain import build_chain
from cairn.serving.retrieving import SHOWN
from cairn.serving.runtime import ServerError
from cairn.serving.server import LOOPBACK, Ports, default_server_env, free_ports, running_server, started

MODELS = ["preprocess", "embed", "retrieve", "landmark"]


def as_jpeg(content: bytes) -> bytes:
    out = io.BytesIO()
    Image.open(io.BytesIO(content)).save(out, format="JPEG", quality=90)
    return out.getvalue()


def queries(tiny: Tiny) -> list[bytes]:
    """Photos of several sizes and formats, with and without a landmark."""
    rng = np.random.default_rng(5)
    shown = [*NAMES, None, None, *NAMES, None]
    sizes = [(90, 70), (48, 48), (300, 400), (64, 200)]
    made = [photo(landmark, rng, *sizes[i % len(sizes)]) for i, landmark in enumerate(shown)]
    return [*made, *(as_jpeg(content) for content in made), *tiny.known.values(), tiny.unknown]


def test_answers_are_those_of_the_offline_computation(tiny: Tiny, tiny_server: str) -> None:
    photos = queries(tiny)
    vectors = embed_offline(tiny.repository / "embed" / "1" / "model.onnx", photos)
    folder = tiny.repository / "retrieve" / "1"
    chain = build_chain(RULE.steps, open_context(folder / CONTEXT_FOLDER))
    result = answered(vectors, PhotoIndex.open(folder), RULE.neighbours, chain)
    wanted, found = result.decided, result.neighbours
    assert RULE.calibration is not None
    probabilities = RULE.calibration.probability(wanted.scores)
    with Client(tiny_server) as client:
        served = client.query(photos)
        embeddings = client.embeddings(photos)

    assert ((vectors * embeddings).sum(axis=1) >= 0.999).all()
    for row, got in enumerate(served):
        assert isinstance(got, Answer)
        sure = wanted.scores[row] >= RULE.threshold
        assert got.landmark_id == (wanted.landmark_ids[row] if sure else None)
        assert got.landmark == (NAMES[wanted.landmark_ids[row]] if sure else None)
        assert got.score == pytest.approx(wanted.scores[row], abs=1e-4)
        assert got.probability == pytest.approx(probabilities[row], abs=1e-3)
        assert [n.image_id for n in got.neighbours] == [as_image_id(int(i)) for i in found.image_ids[row, :SHOWN]]
        assert [n.landmark_id for n in got.neighbours] == found.landmark_ids[row, :SHOWN].tolist()
        assert [n.score for n in got.neighbours] == pytest.approx(found.scores[row, :SHOWN].tolist(), abs=1e-5)
    assert {got.landmark_id for got in served if isinstance(got, Answer)} == {*NAMES, None}


def test_a_broken_photo_fails_alone(tiny: Tiny, tiny_server: str) -> None:
    good = tiny.known[3]
    photos = [good, b"no photo", good, b"", good[: len(good) // 2], good]
    with Client(tiny_server) as client:
        got = client.query(photos * 10)
    assert [isinstance(item, PhotoError) for item in got] == [False, True, False, True, True, False] * 10
    assert str(got[1]).startswith("not an image of a known format")
    assert str(got[3]) == "empty file"
    assert {item.landmark_id for item in got if isinstance(item, Answer)} == {3}


def test_too_many_pixels_are_refused(tiny_server: str) -> None:
    out = io.BytesIO()
    Image.new("L", (2500, 2000)).save(out, format="PNG")
    with Client(tiny_server) as client:
        (got,) = client.query([out.getvalue()])
    assert str(got) == "2500 x 2000 pixels, over the limit of 4 megapixels"


def test_a_batch_in_one_request(tiny: Tiny, tiny_server: str) -> None:
    tensor = grpc.InferInput("photo", [3, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[content] for content in tiny.known.values()], dtype=np.object_))
    client = grpc.InferenceServerClient(tiny_server)
    result = client.infer("landmark", [tensor])
    assert result.as_numpy("landmark_id").ravel().tolist() == list(tiny.known)
    prepared = client.infer("preprocess", [tensor]).as_numpy("image")
    np.testing.assert_allclose(prepared[1], prepare(list(tiny.known.values())[1], PREPROCESSING), atol=1e-6)


def test_a_batch_in_one_request_fails_as_one(tiny: Tiny, tiny_server: str) -> None:
    tensor = grpc.InferInput("photo", [2, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[tiny.known[3]], [b"no photo"]], dtype=np.object_))
    with pytest.raises(InferenceServerException, match="not an image") as caught:
        grpc.InferenceServerClient(tiny_server).infer("landmark", [tensor])
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_image_of_another_size_is_refused_by_the_network(tiny_server: str) -> None:
    tensor = grpc.InferInput("image", [1, 3, 20, 20], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 3, 20, 20), dtype=np.float32))
    with pytest.raises(InferenceServerException, match=r"images are \[3, 20, 20\], the network takes \[3, 48, 48\]"):
        grpc.InferenceServerClient(tiny_server).infer("embed", [tensor])


def test_every_model_is_ready_and_the_repository_is_closed(tiny_server: str) -> None:
    client = grpc.InferenceServerClient(tiny_server)
    assert [client.is_model_ready(name) for name in MODELS] == [True] * len(MODELS)
    with pytest.raises(InferenceServerException, match="restricted"):
        client.get_model_repository_index()


def processes_of(folder: Path) -> list[str]:
    """Command lines of running processes that name `folder`."""
    lines = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended between the listing and the look
    return [line for line in lines if f"{folder}/" in line]


def test_nothing_is_left_when_the_block_ends(tiny: Tiny, tmp_path: Path) -> None:
    before = set(Path("/dev/shm").iterdir())
    with started(tiny.repository, default_server_env(), tmp_path / "serve", free_ports(), LOOPBACK) as server:
        running = processes_of(tmp_path)
        assert sum("stub" in line for line in running) == 3
    assert server.process.returncode == 0
    assert processes_of(tmp_path) == []
    assert not {path for path in Path("/dev/shm").iterdir() if path.name.startswith(f"cairn_{os.getpid()}_")} - before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_launcher_takes_the_server_with_it(tiny: Tiny, tmp_path: Path, number: signal.Signals) -> None:
    ports = free_ports()
    options = [f"--{name}-port={port}" for name, port in ports._asdict().items()]
    options += [f"--repository={tiny.repository}", f"--folder={tmp_path / 'serve'}", "--threads=1"]
    launcher = subprocess.Popen(
        [sys.executable, "-m", "cairn.serving.server", *options], stdout=subprocess.PIPE, text=True
    )
    assert launcher.stdout is not None
    assert launcher.stdout.readline().startswith(f"Triton serves {tiny.repository} at 127.0.0.1:{ports.grpc}")
    assert launcher.stdout.readline() == f"  cairn query --server 127.0.0.1:{ports.grpc} PHOTO...\n"
    launcher.send_signal(number)
    assert launcher.wait(60) == (0 if number == signal.SIGTERM else -number)
    launcher.stdout.close()
    end = time.monotonic() + 60
    while processes_of(tmp_path) and time.monotonic() < end:
        time.sleep(0.1)
    assert processes_of(tmp_path) == []


def test_a_missing_export_is_named(tiny: Tiny, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(tiny.repository, repository)
    (repository / "retrieve" / "1" / "landmarks.parquet").unlink()
    with (
        pytest.raises(ServerError, match=r"retrieve/1/landmarks.parquet: no such file; run `make repro`"),
        running_server(repository, default_server_env()),
    ):
        pass


def test_a_taken_port_is_named(tiny: Tiny, tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        ports = Ports(grpc=taken.getsockname()[1], http=free_ports().http, metrics=free_ports().metrics)
        with (
            pytest.raises(ServerError, match=rf"127.0.0.1:{ports.grpc}: cannot listen there .* pass --grpc-port"),
            started(tiny.repository, default_server_env(), tmp_path / "serve", ports, LOOPBACK),
        ):
            pass


def test_a_model_that_does_not_load_is_shown_with_its_reason(tiny: Tiny, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(tiny.repository, repository)
    path = repository / "embed" / "1" / "model.onnx"
    model = onnx.load(path)
    model.graph.node[-1].output[0] = model.graph.output[0].name = "vector"
    onnx.save(model, path)
    with (
        pytest.raises(ServerError, match=r"maps \['image'\] to \['vector'\]; wanted \['image'\] to \['embedding'\]"),
        running_server(repository, default_server_env()),
    ):
        pass
