"""A stage's lineage: a hash of its params and dependencies, the same before a run and read off dvc.lock after it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cairn.files import md5_of
from cairn.yamls import read_yaml

LOCK = Path("dvc.lock")
FILES = ("weights", "categories")  # params that may name a file


class LineageError(ValueError):
    """A stage or dependency that dvc.yaml and dvc.lock do not agree on."""


def lineage_now(root: Path, stage: str, params: dict[str, Any]) -> str:
    """The lineage that DVC will record for `stage` if it runs in `root` now; `params` is params.yaml as read.

    Raises LineageError if dvc.yaml has no such stage or a dependency is missing.
    """
    locked = _read_lock(root)
    outs = {out["path"]: out["md5"] for entry in locked.values() for out in entry.get("outs", [])}
    deps = {path: outs.get(path) or dvc_hash(root / path) for path in _stage(root, stage).get("deps", [])}
    return _digest(stage, _chosen(root, stage, params), deps)


def resumable(root: Path, stage: str, params: dict[str, Any], lineage: str) -> str:
    """What a killed run may be gone on with under: its lineage, and the content of the files of weights and categories
    that its params name, which DVC does not look into.
    """
    named = {name: md5_of(root / name) for name in _files(_chosen(root, stage, params)) if (root / name).is_file()}
    return hashlib.sha256(json.dumps([lineage, named], sort_keys=True).encode()).hexdigest()[:16]


def lineages_locked(root: Path) -> dict[str, str]:
    """The lineage of every stage in dvc.lock, in its order."""
    return {
        stage: _digest(
            stage,
            entry.get("params", {}).get("params.yaml", {}),
            {dep["path"]: dep["md5"] for dep in entry.get("deps", [])},
        )
        for stage, entry in _read_lock(root).items()
    }


def params_locked(root: Path, stage: str) -> dict[str, Any]:
    """The params that `stage` last ran with, by full name."""
    return dict(_read_lock(root)[stage].get("params", {}).get("params.yaml", {}))


def dvc_hash(path: Path) -> str:
    """DVC's hash of a file (md5 of its content) or folder (md5 of the list of its files and their hashes, `.dir`)."""
    if path.is_file():
        return md5_of(path)
    if not path.is_dir():
        raise LineageError(f"{path}: a dependency in dvc.yaml that is not there")
    entries = []
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(f for f in folders if f != "__pycache__")
        for name in files:
            file = Path(folder) / name
            if file.suffix != ".pyc":
                entries.append({"md5": md5_of(file), "relpath": file.relative_to(path).as_posix()})
    entries.sort(key=lambda entry: entry["relpath"])
    return hashlib.md5(json.dumps(entries, sort_keys=True).encode()).hexdigest() + ".dir"


def _read_lock(root: Path) -> dict[str, Any]:
    path = root / LOCK
    return (read_yaml(path) or {}).get("stages", {}) if path.exists() else {}


def _stage(root: Path, name: str) -> dict[str, Any]:
    stages = read_yaml(root / "dvc.yaml")["stages"]
    if name not in stages:
        raise LineageError(f"dvc.yaml has no stage {name!r}; it has {', '.join(stages)}")
    return dict(stages[name])


def _chosen(root: Path, stage: str, params: dict[str, Any]) -> dict[str, Any]:
    return {name: _look_up(params, name) for name in _stage(root, stage).get("params", [])}


def _files(value: Any, name: str = "") -> Iterator[str]:
    """What the params FILES hold, however deep they lie."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _files(inner, key.rpartition(".")[2])
    elif isinstance(value, list):
        for inner in value:
            yield from _files(inner)
    elif name in FILES and isinstance(value, str):
        yield value


def _look_up(params: dict[str, Any], name: str) -> Any:
    value: Any = params
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            raise LineageError(f"dvc.yaml asks for the param {name!r}, which params.yaml does not have")
        value = value[part]
    return value


def _digest(stage: str, params: dict[str, Any], deps: dict[str, str]) -> str:
    content = json.dumps([stage, params, deps], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
