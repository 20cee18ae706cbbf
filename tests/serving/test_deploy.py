"""The files of deploy/ against what they speak of: the real server's metrics and options, our own code, each other.

No image is built here: that needs a container registry. What an image runs is run elsewhere in these tests.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
import tomllib
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from serving.tiny_repository import Tiny

from cairn.client import Client
from cairn.serving.command import EVERYWHERE, LOOPBACK, Ports, Serving, Tls, flags
from cairn.serving.entry import parser
from cairn.serving.runtime import find_server_env
from cairn.serving.server import Server, default_server_env

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
OVERRIDES: dict[str, dict[str, Any]] = yaml.safe_load((DEPLOY / "compose.gpu.yaml").read_text())["services"]
# Given only where a GPU is; Triton's documentation has their names.
OF_GPUS = {"nv_gpu_utilization", "nv_gpu_memory_used_bytes", "nv_gpu_memory_total_bytes"}
METRIC = re.compile(r"\bnv_[a-z_]+\b")


def expressions() -> dict[str, str]:
    """What is asked of Prometheus, by a name for each."""
    panels = json.loads((DEPLOY / "grafana" / "cairn.json").read_text())["panels"]
    asked = {f"{panel['title']} {t['refId']}": t["expr"] for panel in panels for t in panel["targets"]}
    groups = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
    return {**asked, **{rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}}


@pytest.fixture(scope="module")
def lines(tiny: Tiny, tiny_serving: Server) -> list[str]:
    """What the real server's /metrics says once photos, a broken one among them, were asked about."""
    with Client(tiny_serving.address) as client:
        client.query([*tiny.known.values(), b"broken"])
    return metrics(tiny_serving)


def metrics(server: Server) -> list[str]:
    with urllib.request.urlopen(server.metrics, timeout=10) as answer:
        return str(answer.read().decode()).splitlines()


def failures(server: Server) -> set[str]:
    """The lines of /metrics that count failed requests, by model and reason."""
    return {line for line in metrics(server) if line.startswith("nv_inference_request_failure")}


@pytest.mark.parametrize("name", expressions())
def test_every_metric_and_label_that_is_asked_for_is_there(lines: list[str], name: str) -> None:
    expression = expressions()[name]
    for metric in set(METRIC.findall(expression)) - OF_GPUS:
        series = [line for line in lines if re.match(rf"{metric}[{{ ]", line)]
        assert series, metric
        (braces,) = set(re.findall(rf"{metric}(?:\{{(.*?)\}})?", expression))
        for label, value in re.findall(r'(\w+)="([^"]+)"', braces):
            assert any(f'{label}="{value}"' in line for line in series), f"{metric}: {label}={value}"
        for label in re.findall(r"\bby \((.*?)\)", expression):
            assert all(f'{each}="' in series[0] for each in label.split(", ")), f"{metric}: by {label}"


def test_a_broken_photo_is_a_failure_of_preprocess_alone(tiny_serving: Server) -> None:
    """What the alert on failures relies on."""
    before = failures(tiny_serving)
    with Client(tiny_serving.address) as client:
        client.query([b"broken"])
    end, failed = time.monotonic() + 10, set[str]()
    while "landmark" not in failed and time.monotonic() < end:  # it is counted after the answer
        failed = {re.findall(r'model="(\w+)"', line)[0] for line in failures(tiny_serving) - before}
    assert "landmark" in failed <= {"preprocess", "landmark"}


def test_models_that_are_named_exist() -> None:
    models = {path.parent.name for path in (ROOT / "triton_repo").glob("*/1")}
    for expression in expressions().values():
        for given in re.findall(r'model!?[=~]+"([^"]+)"', expression):
            assert set(given.split("|")) <= models


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here (Debian's package prometheus has it)")
def test_prometheus_takes_its_configuration() -> None:
    subprocess.run(["promtool", "check", "config", "prometheus.yml"], cwd=DEPLOY, check=True)


def has_compose() -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    return subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not has_compose(), reason="no `docker compose` here")
@pytest.mark.parametrize("files", [["compose.yaml"], ["compose.yaml", "compose.gpu.yaml"]])
def test_docker_takes_the_services(files: list[str]) -> None:
    options = [option for file in files for option in ("-f", file)]
    subprocess.run(
        ["docker", "compose", *options, "--profile", "*", "config", "--quiet"],
        cwd=DEPLOY,
        env={"PATH": str(Path(str(shutil.which("docker"))).parent), "TRITON_IMAGE": "a", "PLAN_IMAGE": "b"},
        check=True,
    )


def filled(text: str) -> str:
    """As compose fills in ${NAME:-default}."""
    return re.sub(r"\$\{\w+:-(.*?)\}", r"\1", text)


@pytest.mark.parametrize("service", [SERVICES["server"], OVERRIDES["server"]], ids=["cpu", "gpu"])
def test_the_servers_command_is_one_that_the_entry_takes(service: dict[str, Any]) -> None:
    args = parser().parse_args([filled(option) for option in service["command"]])
    mounts = {filled(volume).split(":")[1]: filled(volume).split(":")[2:] for volume in SERVICES["server"]["volumes"]}
    assert mounts == {str(args.repository): ["ro"], str(args.photos): ["ro"]}
    assert (args.host, args.http_host, args.metrics_host) == (EVERYWHERE, LOOPBACK, EVERYWHERE)


def test_what_is_built_is_what_the_files_name() -> None:
    for service in ("server", "plan"):
        build = SERVICES[service]["build"]
        dockerfile = (DEPLOY / build["context"] / build["dockerfile"]).resolve()
        text = dockerfile.read_text()
        (argument,) = build["args"]
        assert f"ARG {argument}\nFROM ${{{argument}}}\n" in text
        for source in re.findall(r"^COPY (\S+)", text, re.MULTILINE):
            assert source.split("/")[0] in ("cairn", "requirements")
        (lock,) = re.findall(r"requirements/(\w+)\.lock", text)
        assert lock in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert lock in re.findall(r"for extra in (.*);", (ROOT / "Makefile").read_text())[0].split()
        assert "--require-hashes" in text
        assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", text, re.MULTILINE)
        assert dockerfile.with_name(f"{dockerfile.name}.dockerignore").exists()


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_listens_beyond_this_machine_or_has_more_rights_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert all(port.startswith(f"{LOOPBACK}:") for port in service.get("ports", []))
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "privileged" not in service


def test_the_health_check_asks_where_the_server_listens() -> None:
    health = re.findall(r"http://([\d.]+):(\d+)(\S+?)'", (DEPLOY / "Dockerfile.server").read_text())
    assert health == [(LOOPBACK, str(Ports().http), "/v2/health/ready")]
    (target,) = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"][0]["static_configs"][0][
        "targets"
    ]
    assert target == f"server:{Ports().metrics}"
    assert SERVICES["server"]["ports"] == ["127.0.0.1:${CAIRN_PORT:-8001}:8001"]


def test_every_option_given_to_triton_is_one_of_its_own() -> None:
    env = find_server_env(default_server_env())
    libraries = ":".join(map(str, env.libraries))
    asked = [str(env.binary), "--help"]
    said = subprocess.run(asked, env={"LD_LIBRARY_PATH": libraries}, capture_output=True, text=True, check=False)
    known = set(re.findall(r"^\s+(--[a-z0-9-]+)", said.stdout + said.stderr, re.MULTILINE))
    plain = Serving(Path("/models"), key="k" * 16, embedder="tensorrt", photos=Path("/photos"))
    tls = plain._replace(tls=Tls(Path("a"), Path("b")))
    mutual = plain._replace(tls=Tls(Path("a"), Path("b"), clients=Path("c")))
    given = {option.split("=")[0] for serving in (plain, tls, mutual) for option in flags(serving)}
    assert len(known) > 50
    assert given <= known


# What `cairn plan` may not need, as its container has only the extra `plan`, torch and TensorRT.
PIPELINE_ONLY = (
    "dvc",
    "mlflow",
    "pandas",
    "timm",
    "faiss",
    "onnx",
    "onnxscript",
    "great_expectations",
    "cv2",
    "ruamel",
    "tqdm",
)


def test_the_plans_container_needs_no_more_than_its_extra() -> None:
    code = f"""
import sys
for name in {PIPELINE_ONLY!r}:
    sys.modules[name] = None  # importing it now raises ImportError
import cairn.client.main, cairn.export.plan
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_panels_do_not_overlap() -> None:
    taken = np.zeros((200, 24), dtype=int)
    for panel in json.loads((DEPLOY / "grafana" / "cairn.json").read_text())["panels"]:
        place = panel["gridPos"]
        taken[place["y"] : place["y"] + place["h"], place["x"] : place["x"] + place["w"]] += 1
    assert taken.max() == 1
