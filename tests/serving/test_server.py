"""The real Triton server over real gRPC: its answers, its errors, its end."""

from __future__ import annotations

import io
import json
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.protobuf import json_format, text_format
from PIL import Image
from serving.certificates import Authority
from serving.tiny_repository import DIMENSIONS, NAMES, PREPROCESSING, RULE, SIDE, Tiny, embed_offline, photo
from tritonclient import grpc
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.utils import InferenceServerException

from cairn.answering.preprocess import pixels
from cairn.client import Answer, Client, PhotoError
from cairn.export.triton_configs import NetworkSizes, python_config
from cairn.files import write_table
from cairn.manifest import as_image_id
from cairn.params import BatchingParams
from cairn.retrieval.answer import answered
from cairn.retrieval.context import CONTEXT_FOLDER, open_context
from cairn.retrieval.index import PhotoIndex
from cairn.retrieval.rerankers.chain import build_chain
from cairn.serving import server as server_module
from cairn.serving.command import LOOPBACK, Ports, Tls
from cairn.serving.control import FILE as CONTROL_FILE
from cairn.serving.control import NAME, read
from cairn.serving.entry import main as enter
from cairn.serving.retrieving import SHOWN
from cairn.serving.runtime import ServerError
from cairn.serving.server import Server, default_server_env, free_ports, running_server, started
from cairn.serving.server import main as launch
from cairn.serving.watchdog import Api

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
    assert str(got) == "5 megapixels, over the limit of 4 megapixels"


def test_a_batch_in_one_request(tiny: Tiny, tiny_server: str) -> None:
    tensor = grpc.InferInput("photo", [3, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[content] for content in tiny.known.values()], dtype=np.object_))
    client = grpc.InferenceServerClient(tiny_server)
    result = client.infer("landmark", [tensor])
    assert result.as_numpy("landmark_id").ravel().tolist() == list(tiny.known)
    prepared = client.infer("preprocess", [tensor]).as_numpy("image")
    np.testing.assert_array_equal(prepared[1], pixels(list(tiny.known.values())[1], PREPROCESSING))


def test_a_broken_photo_of_a_batch_says_why_and_the_other_has_its_answer(tiny: Tiny, tiny_server: str) -> None:
    tensor = grpc.InferInput("photo", [2, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[tiny.known[3]], [b"no photo"]], dtype=np.object_))
    result = grpc.InferenceServerClient(tiny_server).infer("landmark", [tensor])
    assert result.as_numpy("landmark_id").ravel().tolist() == [3, -1]
    good, broken = result.as_numpy("error").ravel()
    assert good == b""
    assert b"not an image" in broken


def test_a_batch_without_one_good_photo_fails(tiny_server: str) -> None:
    tensor = grpc.InferInput("photo", [2, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[b"no photo"], [b""]], dtype=np.object_))
    with pytest.raises(InferenceServerException, match="not an image") as caught:
        grpc.InferenceServerClient(tiny_server).infer("landmark", [tensor])
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_image_of_another_size_is_refused_by_the_network(tiny_server: str) -> None:
    tensor = grpc.InferInput("image", [1, 20, 20, 3], "UINT8")
    tensor.set_data_from_numpy(np.zeros((1, 20, 20, 3), dtype=np.uint8))
    with pytest.raises(InferenceServerException, match=r"Expected \[-1,48,48,3\], got \[1,20,20,3\]") as caught:
        grpc.InferenceServerClient(tiny_server).infer("embed", [tensor])
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_every_model_is_ready(tiny_server: str) -> None:
    client = grpc.InferenceServerClient(tiny_server)
    assert [client.is_model_ready(name) for name in MODELS] == [True] * len(MODELS)


CLOSED: dict[str, Callable[[grpc.InferenceServerClient], object]] = {
    "load": lambda client: client.load_model("retrieve"),
    "unload": lambda client: client.unload_model("retrieve"),
    "repository": lambda client: client.get_model_repository_index(),
    "config": lambda client: client.get_model_config("retrieve"),
    "statistics": lambda client: client.get_inference_statistics(),
    "log": lambda client: client.update_log_settings({"log_verbose_level": 1}),
    "trace": lambda client: client.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"]}),
    "memory": lambda client: client.register_system_shared_memory("a", "/a", 1),
}


@pytest.mark.parametrize("what", CLOSED)
def test_what_reaches_beyond_asking_is_closed(tiny_server: str, what: str) -> None:
    with pytest.raises(InferenceServerException, match="restricted"):
        CLOSED[what](grpc.InferenceServerClient(tiny_server))


class Growing(NamedTuple):
    """A server on a repository of its own, which a test may change."""

    server: Server
    repository: Path
    photos: Path


@pytest.fixture(scope="module")
def growing(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Growing]:
    folder = tmp_path_factory.mktemp("growing")
    repository, photos = folder / "triton_repo", folder / "photos"
    shutil.copytree(tiny.repository, repository)
    photos.mkdir()
    with started(
        repository, default_server_env(), folder / "serve", free_ports(), LOOPBACK, photos=photos, verbose=1
    ) as server:
        yield Growing(server, repository, photos)


PROBE = """
import os, sys
import numpy as np
import triton_python_backend_utils as triton

class TritonPythonModel:
    def execute(self, requests):
        variables = [os.environ.get(name, "") for name in ("CAIRN_INDEX_PHOTOS", "CAIRN_CONTROL_KEY")]
        said = [np.__version__, sys.prefix, *variables]
        tensor = triton.Tensor("said", np.array([text.encode() for text in said], dtype=np.object_))
        return [triton.InferenceResponse([tensor]) for _ in requests]
"""
PROBE_CONFIG = {
    "name": "probe",
    "backend": "python",
    "input": [{"name": "asked", "data_type": "TYPE_FP32", "dims": [1]}],
    "output": [{"name": "said", "data_type": "TYPE_STRING", "dims": [4]}],
    "instance_group": [{"kind": "KIND_CPU", "count": 1}],
}


def test_models_run_in_the_servers_environment_with_a_numpy_that_the_stub_reads(growing: Growing) -> None:
    """Loaded with the key that the launcher wrote; the configuration names no environment."""
    control = read(growing.server.folder)
    client = grpc.InferenceServerClient(control.address)
    client.load_model(
        "probe", headers=control.headers, config=json.dumps(PROBE_CONFIG), files={"file:1/model.py": PROBE.encode()}
    )
    asked = grpc.InferInput("asked", [1], "FP32")
    asked.set_data_from_numpy(np.zeros(1, dtype=np.float32))
    said = [text.decode() for text in client.infer("probe", [asked]).as_numpy("said")]
    client.unload_model("probe", headers=control.headers)
    assert said[0].startswith("1.")
    assert said[1:] == [str(default_server_env().absolute()), str(growing.photos), ""]


def test_a_new_version_is_switched_to_between_two_requests(tiny: Tiny, growing: Growing) -> None:
    """Asked without a pause while `retrieve` is loaded anew: no request fails, and the answers become the new ones."""
    control = read(growing.server.folder)
    stop, outcomes = threading.Event(), list[tuple[float, str | None]]()  # when it was asked, and what was answered

    def ask() -> None:
        with Client(control.address) as client:
            while not stop.is_set():
                asked = time.monotonic()
                (got,) = client.query([tiny.known[3]])
                outcomes.append((asked, got.landmark if isinstance(got, Answer) else f"error: {got}"))

    retrieve = growing.repository / "retrieve"
    aside = growing.repository.parent / "aside"
    shutil.copytree(retrieve / "1", aside)
    names = pq.read_table(aside / "landmarks.parquet").to_pylist()
    write_table(aside / "landmarks.parquet", pa.Table.from_pylist([{**row, "name": "renamed"} for row in names]))
    asking = [threading.Thread(target=ask) for _ in range(4)]
    for thread in asking:
        thread.start()
    try:
        aside.rename(retrieve / "2")
        grpc.InferenceServerClient(control.address).load_model("retrieve", headers=control.headers)
        switched, before = time.monotonic(), len(outcomes)  # what is under way may still be answered by the old one
        while len(outcomes) < before + 12 and any(thread.is_alive() for thread in asking):
            time.sleep(0.01)
    finally:
        stop.set()
        for thread in asking:
            thread.join(60)
    assert {answer for _, answer in outcomes} == {NAMES[3], "renamed"}
    assert {answer for asked, answer in outcomes if asked > switched} == {"renamed"}


def test_the_key_is_for_its_owner_alone(growing: Growing) -> None:
    assert (growing.server.folder / CONTROL_FILE).stat().st_mode & 0o777 == 0o600


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
        assert sum("stub" in line for line in running) >= len(list(tiny.repository.glob("*/1/model.py")))
        assert read(server.folder).address == server.address
    assert server.process.returncode == 0
    assert not (server.folder / CONTROL_FILE).exists()
    assert processes_of(tmp_path) == []
    assert not {path for path in Path("/dev/shm").iterdir() if path.name.startswith(f"cairn_{os.getpid()}_")} - before


@pytest.mark.parametrize("said", ["terminate called: boost::interprocess::lock_exception", "another trouble"])
def test_a_start_that_ends_as_by_tritons_own_lock_mocked_is_made_once_more(
    tiny: Tiny,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    said: str,
) -> None:
    """The first server is killed here, with these words in its log: what happens on a busy machine now and then."""
    wait, processes = server_module._wait_until_ready, list[int]()

    def interrupted(process: subprocess.Popen[bytes], host: str, port: int, log: Path, timeout_s: float) -> None:
        processes.append(process.pid)
        if len(processes) == 1:
            process.kill()
            process.wait()
            log.write_text(said)
        wait(process, host, port, log, timeout_s)

    monkeypatch.setattr(server_module, "_wait_until_ready", interrupted)
    starting = started(tiny.repository, default_server_env(), tmp_path / "serve", free_ports(), LOOPBACK)
    if "lock" in said:
        with starting as server, Client(server.address) as client:
            (got,) = client.query([tiny.known[5]])
            assert isinstance(got, Answer)
            assert got.landmark_id == 5
            assert [server.process.pid] == processes[1:]
        assert "starting it once more" in capfd.readouterr().err
    else:
        with pytest.raises(ServerError, match="another trouble"), starting:
            pass
        assert len(processes) == 1


def test_a_path_that_a_shell_would_misread_is_served(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton starts the processes of Python models through a shell, and quotes nothing."""
    odd = tmp_path / "another place, über $(touch ran; touch ..) there's"
    shutil.copytree(tiny.repository, odd / "triton_repo")
    serve, links = odd / "serve", tmp_path / "links"
    links.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(links))
    with started(odd / "triton_repo", default_server_env(), serve, free_ports(), LOOPBACK) as server:
        with Client(server.address) as client:
            (got,) = client.query([tiny.known[5]])
        assert server.folder == serve
        assert read(serve).address == server.address
    assert isinstance(got, Answer)
    assert got.landmark_id == 5
    assert not list(tmp_path.rglob("ran"))
    assert not Path("ran").exists()
    assert not list(links.glob("cairn-link-*"))


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
    assert launcher.wait(90) == (0 if number == signal.SIGTERM else -number)
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


@pytest.mark.parametrize(("option", "port"), [("--grpc-port", "70000"), ("--http-port", "0"), ("--metrics-port", "-1")])
def test_a_port_that_is_none_is_named(tiny: Tiny, option: str, port: str, capsys: pytest.CaptureFixture[str]) -> None:
    for main in (launch, enter):  # without a container, and in one
        assert main([f"--repository={tiny.repository}", f"{option}={port}"]) == 1
        assert capsys.readouterr().err == f"{option} {port}: no port; give a number from 1 to 65535\n"


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


def test_triton_reads_the_networks_configuration_as_it_was_meant(tiny: Tiny, tiny_serving: Server) -> None:
    control = read(tiny_serving.folder)
    client = grpc.InferenceServerClient(control.address)
    found = client.get_model_config("embed", headers=control.headers).config
    meant = text_format.Parse((tiny.repository / "embed" / "config.pbtxt").read_text(), ModelConfig())
    for name in ("backend", "default_model_filename", "max_batch_size", "version_policy", "model_warmup"):
        assert getattr(found, name) == getattr(meant, name)
    assert [list(tensor.dims) for tensor in (*found.input, *found.output)] == [[48, 48, 3], [32]]
    batching, wanted = found.dynamic_batching, meant.dynamic_batching
    assert batching.preferred_batch_size == wanted.preferred_batch_size
    assert batching.max_queue_delay_microseconds == wanted.max_queue_delay_microseconds == 1000
    assert batching.default_queue_policy == wanted.default_queue_policy


def test_more_than_the_queue_holds_is_refused_at_once(growing: Growing) -> None:
    """As `embed` is configured, but of one photo at a time, slow, and with a short queue."""
    control = read(growing.server.folder)
    client = grpc.InferenceServerClient(control.address)
    batching = BatchingParams(preferred=(), delay_ms=0, queue=2, timeout_s=30, instances=1)
    config = python_config(NetworkSizes(SIDE, DIMENSIONS, 1, 1), batching)
    config.name = "slow"
    source = SLOW.replace("DIMENSIONS", str(DIMENSIONS))
    client.load_model(
        "slow",
        headers=control.headers,
        config=json_format.MessageToJson(config, preserving_proto_field_name=True),
        files={"file:1/model.py": source.encode()},
    )
    image = grpc.InferInput("image", [1, SIDE, SIDE, 3], "UINT8")
    image.set_data_from_numpy(np.zeros((1, SIDE, SIDE, 3), dtype=np.uint8))
    outcomes = queue.Queue[str]()

    def done(result: object, error: InferenceServerException | None) -> None:
        outcomes.put("answered" if error is None else f"{error.status()} {error.message()}")

    for number in range(10):
        client.async_infer("slow", [image], done, request_id=str(number))
    said = [outcomes.get(timeout=60) for _ in range(10)]
    client.unload_model("slow", headers=control.headers)
    refused = [line for line in said if line != "answered"]
    assert 1 <= said.count("answered") <= 4  # one is worked on, perhaps one more by then, and two wait
    assert all(line.startswith("StatusCode.UNAVAILABLE") for line in refused)
    assert all("Exceeds maximum queue size" in line for line in refused)


SLOW = """
import time
import numpy as np
import triton_python_backend_utils as triton

class TritonPythonModel:
    def execute(self, requests):
        time.sleep(1.5)
        tensor = triton.Tensor("embedding", np.ones((1, DIMENSIONS), dtype=np.float32))
        return [triton.InferenceResponse([tensor]) for _ in requests]
"""


def test_a_request_is_found_in_the_log_by_its_id(growing: Growing) -> None:
    client = grpc.InferenceServerClient(growing.server.address)
    image = grpc.InferInput("image", [1, SIDE, SIDE, 3], "UINT8")
    image.set_data_from_numpy(np.zeros((1, SIDE, SIDE, 3), dtype=np.uint8))
    client.infer("embed", [image], request_id="visitor-17")
    lines = [line for line in growing.server.log.read_text().splitlines() if "visitor-17" in line]
    assert any("model: embed" in line for line in lines)
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", line) for line in lines)


def test_over_tls_only_those_who_trust_the_certificate_are_answered(tiny: Tiny, tmp_path: Path) -> None:
    authority = Authority()
    files = authority.write(tmp_path, "server")
    (tmp_path / "authority.pem").write_bytes(authority.certificate)
    tls, ports = Tls(*files, authority=tmp_path / "authority.pem", clients=tmp_path / "authority.pem"), free_ports()
    with started(
        tiny.repository, default_server_env(), tmp_path / "serve", ports, LOOPBACK, photos=tiny.photos, tls=tls
    ) as server:
        control = read(server.folder)
        certificate, key = (str(path) for path in authority.write(tmp_path, "client"))
        trusted = {"ssl": True, "root_certificates": control.certificate}
        known = grpc.InferenceServerClient(server.address, **trusted, private_key=key, certificate_chain=certificate)
        assert known.is_model_ready("landmark")
        assert "embed" in [model.name for model in known.get_model_repository_index(control.headers).models]
        for options in ({}, trusted):  # no TLS at all; TLS, but no certificate of our own
            with pytest.raises(InferenceServerException) as caught:
                grpc.InferenceServerClient(server.address, **options).is_model_ready("landmark", client_timeout=2)
            assert caught.value.status() in ("StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED")
        api = Api(LOOPBACK, ports.http, control.key)  # HTTP has no TLS: without the key it gives no answers
        assert api.ready("landmark")
        assert posted(api._replace(key="another"), tiny.known[3])[0] == 403
        status, said = posted(api, tiny.known[3])
        assert status == 200
        assert {"name": "landmark_id", "datatype": "INT64", "shape": [1, 1], "data": [3]} in said["outputs"]


def posted(api: Api, photo: bytes) -> tuple[int, dict[str, Any]]:
    """Status and answer of a photo that is asked about over HTTP."""
    about = {"name": "photo", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(photo) + 4}}
    head = json.dumps({"inputs": [about]}).encode()
    headers = {NAME: api.key, "Inference-Header-Content-Length": str(len(head))}
    connection = HTTPConnection(api.host, api.port, timeout=60)
    body = head + len(photo).to_bytes(4, "little") + photo
    connection.request("POST", "/v2/models/landmark/infer", body, headers)
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read())
    connection.close()
    return found
