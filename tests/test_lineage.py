"""Lineages: what is worked out before a run is what dvc.lock says after it, in a real DVC repository."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cairn.lineage import LineageError, lineage_now, lineages_locked, resumable

DVC_YAML = """
stages:
  one:
    cmd: mkdir out && cp code/a.txt out/x && cp code/sub/b.txt out/y
    params: [seed, one]
    deps: [code]
    outs: [out]
  two:
    cmd: cat out/x code/a.txt > two.txt
    params: [two.inner]
    deps: [out, code/a.txt]
    outs: [two.txt]
"""
PARAMS = {"seed": 3, "one": {"size": 1.5, "rate": 0.00003, "name": "häuser"}, "two": {"inner": [1, 2], "other": None}}


def dvc(root: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    (root / "code" / "sub").mkdir(parents=True)
    (root / "code" / "__pycache__").mkdir()
    (root / "code" / "__pycache__" / "a.pyc").write_bytes(b"x")
    (root / "code" / "a.txt").write_text("a\n")
    (root / "code" / "sub" / "b.txt").write_text("b\n")
    (root / "dvc.yaml").write_text(DVC_YAML)
    (root / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    (root / ".dvcignore").write_text("__pycache__\n*.pyc\n")
    dvc(root, "init", "--no-scm", "-q")
    (root / ".dvcignore").write_text("__pycache__\n*.pyc\n")
    return root


def test_before_a_run_and_after_it_are_the_same(project: Path) -> None:
    first = lineage_now(project, "one", PARAMS)
    dvc(project, "repro", "-q", "one")
    second = lineage_now(project, "two", PARAMS)
    dvc(project, "repro", "-q")
    assert lineages_locked(project) == {"one": first, "two": second}
    assert lineage_now(project, "two", PARAMS) == second


def test_a_param_or_a_dependency_changes_it_and_another_param_does_not(project: Path) -> None:
    before = lineage_now(project, "two", PARAMS)
    assert lineage_now(project, "two", {**PARAMS, "two": {"inner": [1, 2], "other": 5}}) == before
    assert lineage_now(project, "two", {**PARAMS, "two": {"inner": [1, 3]}}) != before
    (project / "code" / "a.txt").write_text("changed\n")
    assert lineage_now(project, "two", PARAMS) != before
    (project / "code" / "a.txt").write_text("a\n")


def test_what_is_not_there_is_named(project: Path) -> None:
    with pytest.raises(LineageError, match="no stage 'three'"):
        lineage_now(project, "three", PARAMS)
    with pytest.raises(LineageError, match=r"two\.inner"):
        lineage_now(project, "two", {"two": {}})


def test_a_killed_run_is_gone_on_with_only_on_the_same_files_of_weights(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"train": {"params": ["train.weights", "joined"]}}}))
    for name in ("first.pth", "second.pth", "other.pth"):
        (tmp_path / name).write_text("old")
    joined = [{"backbone": "b", "weights": "hub"}, {"backbone": "other.pth", "weights": "second.pth"}]
    params = {"train": {"weights": "first.pth"}, "joined": joined}
    lineage = lineage_now(tmp_path, "train", params)

    def key() -> str:
        return resumable(tmp_path, "train", params, lineage)

    keys = [key()]
    for name in ("first.pth", "second.pth"):
        (tmp_path / name).write_text("new")
        keys.append(key())
    assert len(set(keys)) == 3
    (tmp_path / "other.pth").write_text("new")  # not named as weights
    assert key() == keys[-1]
    (tmp_path / "first.pth").write_text("old")
    (tmp_path / "second.pth").write_text("old")
    assert key() == keys[0]
    assert resumable(tmp_path, "train", params, "another") != keys[0]
    assert lineage_now(tmp_path, "train", params) == lineage  # what DVC will record
