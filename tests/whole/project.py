"""A project to run the whole pipeline in: a clone with tiny params, `dvc repro` in it, and hashes of what came out."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cairn.composing import compose
from cairn.files import md5_of
from cairn.yamls import read_yaml

ROOT = Path(__file__).parents[2]
TINY_DATA = [
    "fetch.synthetic.landmarks=6",
    "fetch.synthetic.images=90",
    "fetch.synthetic.distractors=24",
    "fetch.synthetic.exact_duplicates=4",
    "fetch.synthetic.near_duplicates=4",
    "fetch.synthetic.broken=3",
    "fetch.synthetic.mislabelled=2",
    "fetch.synthetic.size=64",
    "fetch.shard_mb=0.1",
    "clean.shard_mb=0.1",
    "train.scratch.image_size=48",
]
TINY = [*TINY_DATA, "train.scratch.epochs=3"]


def clone(target: Path) -> Path:
    """What git would give of the working tree, in a repository of its own, with the tiny params."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file() and name != "dvc.lock" and not name.startswith("reports/"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    compose(target, target / "params.yaml", TINY)
    subprocess.run(["git", "init", "-q"], cwd=target, check=True)
    return target


LOGGED = {"CAIRN_NO_MLFLOW": ""}  # over an environment, for a run that logs to the clone's own database


def environment(folder: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    mine = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    # The clone's own library, not the installed one.
    return {**mine, "PATH": path, "PYTHONPATH": str(folder), "CAIRN_NO_MLFLOW": "1"}


def repro(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", "repro", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def stages(folder: Path) -> dict[str, dict[str, Any]]:
    """The stages of dvc.yaml by name, in order."""
    found: dict[str, dict[str, Any]] = read_yaml(folder / "dvc.yaml")["stages"]
    return found


def outs(stage: Mapping[str, Any]) -> list[str]:
    """The paths that a stage makes: outs, metrics and plots."""
    every = [out for kind in ("outs", "metrics", "plots") for out in stage.get(kind, [])]
    return [next(iter(out)) if isinstance(out, dict) else out for out in every]


def hashes(folder: Path, paths: Sequence[str]) -> dict[str, str]:
    """md5 of every file in or below the paths that are there, by its name from `folder`."""
    files = [file for path in paths for file in [folder / path, *(folder / path).rglob("*")] if file.is_file()]
    return {file.relative_to(folder).as_posix(): md5_of(file) for file in sorted(files)}


def result(folder: Path) -> dict[str, str]:
    """Hashes of dvc.lock and of all that the stages make."""
    return hashes(folder, ["dvc.lock", *(path for stage in stages(folder).values() for path in outs(stage))])


def differences(wanted: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """The names that are in one only, or have other hashes."""
    return sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
