"""train and embed in two processes, started by `dvc repro`: same embeddings as by one, and a kill changes nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from whole.project import ROOT, TINY, clone, environment, repro

from cairn.composing import compose
from cairn.lineage import lineages_locked

DRAWS = [*TINY, "train.scratch.epochs=12", "clean.shard_mb=0.03", "threads=1"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every stage up to embed, in two processes."""
    folder = clone(tmp_path_factory.mktemp("made"))
    compose(folder, folder / "params.yaml", [*DRAWS, "processes=2"])
    repro(folder, "embed")
    return folder


def stage(folder: Path, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, f"stages/{name}.py"]
    return subprocess.Popen(command, cwd=folder, env=environment(folder), stderr=subprocess.PIPE, text=True)


def ended_well(process: subprocess.Popen[str]) -> str:
    _, said = process.communicate(timeout=500)
    assert process.returncode == 0, said[-4000:]
    return said


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_there_is_one_report_and_nothing_left_over(made: Path) -> None:
    report = json.loads((made / "reports" / "embed.json").read_text())
    arrays = [np.load(path) for path in (made / "build" / "embeddings" / "network").iterdir()]
    assert len(arrays) > 2
    assert sum(len(array) for array in arrays) == report["images"]
    (left,) = (made / "build" / ".partial").iterdir()  # until the next stage begins
    assert (left / "finished").read_text() == lineages_locked(made)["embed"]
    assert files_of(left / "network") == files_of(made / "build" / "embeddings" / "network")


def test_one_process_makes_the_same_embeddings_to_the_byte(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "one"
    shutil.copytree(made, folder, symlinks=True)
    shutil.rmtree(folder / "build" / "embeddings")
    compose(folder, folder / "params.yaml", [*DRAWS, "processes=1"])
    ended_well(stage(folder, "embed"))
    assert files_of(folder / "build" / "embeddings") == files_of(made / "build" / "embeddings")


def rank_of(folder: Path, rank: int) -> int | None:
    """The process number of a rank of the train stage in `folder`."""
    for process in Path("/proc").iterdir():
        try:
            if (process / "cwd").readlink() == folder and f"RANK={rank}".encode() in (
                (process / "environ").read_bytes().split(b"\0")
            ):
                return int(process.name)
        except OSError:  # ended meanwhile, or no process at all
            continue
    return None


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finding a rank's process needs /proc")
def test_a_killed_process_of_the_stage_changes_nothing(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    shutil.copytree(made, folder, symlinks=True)
    shutil.rmtree(folder / "build" / "model")
    process = stage(folder, "train")
    while not any(folder.glob("build/.partial/train-*/checkpoint.pt")):
        assert process.poll() is None
        time.sleep(0.02)
    victim = rank_of(folder, 1)
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    while rank_of(folder, 1) in {None, victim}:  # torchrun starts another
        assert process.poll() is None
        time.sleep(0.02)
    ended_well(process)
    assert files_of(folder / "build" / "model") == files_of(made / "build" / "model")


def test_train_wants_as_many_processes_as_its_params_say(made: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1", "stages/train.py"]
    done = subprocess.run(command, cwd=made, env=environment(made), capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "torchrun started 1 processes and params.yaml has processes: 2" in done.stderr


STUBS = {
    "scontrol": "#!/bin/sh\necho localhost\necho localhost\n",
    # What Slurm's does on two machines, on this one.
    "srun": '#!/bin/sh\n"$@" & first=$!\n"$@" || exit 1\nwait $first\n',
}


def test_two_torchruns_as_slurm_starts_them_make_the_same_and_dvc_takes_it(made: Path, tmp_path: Path) -> None:
    folder, stubs = tmp_path / "slurm", tmp_path / "stubs"
    shutil.copytree(made, folder, symlinks=True)
    stubs.mkdir()
    for name, content in STUBS.items():
        (stubs / name).write_text(content)
        (stubs / name).chmod(0o755)
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "activate").write_text("")
    shutil.rmtree(folder / "build" / "model")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    given = environment(folder)
    slurm = {"SLURM_JOB_NODELIST": "a,b", "SLURM_NNODES": "2", "SLURM_JOB_ID": "7", "CAIRN_PROCESSES_PER_NODE": "1"}
    more = {"PATH": f"{stubs}{os.pathsep}{given['PATH']}", "CAIRN_RENDEZVOUS_PORT": str(port)}
    done = subprocess.run(
        ["bash", "deploy/train.sbatch"],
        cwd=folder,
        env=given | slurm | more,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert files_of(folder / "build" / "model") == files_of(made / "build" / "model")
    for command in commands_of("large.md", "dvc commit"):
        subprocess.run(command, shell=True, cwd=folder, env=given, check=True)
    assert (folder / "dvc.lock").read_bytes() == (made / "dvc.lock").read_bytes()
    assert "Data and pipelines are up to date" in dvc(folder, "status", "train")


def commands_of(page: str, beginning: str) -> list[str]:
    """The lines of a page's shell blocks that begin so."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    found = [line for line in lines if line.startswith(beginning)]
    assert found, beginning
    return found


def dvc(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_what_one_machine_pushed_another_pulls(made: Path, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(made, here, symlinks=True)
    shutil.copytree(made, there, symlinks=True, ignore=shutil.ignore_patterns("build", "cache"))
    for line in commands_of("large.md", "dvc remote add"):
        for folder in (here, there):
            subprocess.run(
                line.replace("/mnt/shared", str(tmp_path)), shell=True, cwd=folder, env=environment(here), check=True
            )
    (push,), (pull,) = commands_of("large.md", "dvc push"), commands_of("large.md", "dvc pull")
    dvc(here, *push.split()[1:])
    dvc(there, *pull.split()[1:])
    assert files_of(there / "build" / "embeddings") == files_of(made / "build" / "embeddings")


def test_kubernetes_job_and_its_parts_belong_together() -> None:
    service, job = yaml.safe_load_all((ROOT / "deploy" / "train.kubernetes.yaml").read_text())
    claim = yaml.safe_load((ROOT / "deploy" / "volume.kubernetes.yaml").read_text())
    assert [part["kind"] for part in (service, job, claim)] == ["Service", "Job", "PersistentVolumeClaim"]
    spec = job["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    options = dict(word.removeprefix("--").split("=") for word in container["command"][1:-1])
    assert int(options["nnodes"]) == job["spec"]["completions"] == job["spec"]["parallelism"]
    assert int(options["nproc-per-node"]) == container["resources"]["limits"]["nvidia.com/gpu"]
    name, port = job["metadata"]["name"], service["spec"]["ports"][0]["port"]
    assert options["rdzv-endpoint"] == f"{name}-0.{service['metadata']['name']}:{port}"
    assert spec["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"].items() <= job["spec"]["template"]["metadata"]["labels"].items()
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    assert volumes["project"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    known = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert all(f"--{option}" in known for option in options)


@pytest.mark.parametrize("beginning", ["mlflow server", "mlflow db"])
def test_mlflow_knows_the_options_that_are_named(beginning: str) -> None:
    for line in commands_of("large.md", beginning):
        words = line.split()
        command = words[: 3 if words[1] == "db" else 2]
        said = subprocess.run(
            [*command, "--help"], capture_output=True, text=True, env=environment(ROOT), check=True
        ).stdout
        assert all(word in said for word in words if word.startswith("--"))
