"""A stage runs anew when the code that it calls has changed: what its script imports is among its dependencies."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml
from whole.project import ROOT

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# The door, and how things are written and shared out: every change to them would run everything anew.
NOT_LISTED = {"cairn/stage.py", "cairn/params.py", "cairn/processes.py", "cairn/files.py"}


def imported(script: Path) -> set[str]:
    """The library's files, or whole packages, that a script imports from."""
    names = [node for node in ast.walk(ast.parse(script.read_text())) if isinstance(node, ast.ImportFrom)]
    ours = [
        (node.module, each.name) for node in names if (node.module or "").startswith("cairn") for each in node.names
    ]
    return {found for module, name in ours for found in [file_of(f"{module}.{name}") or file_of(str(module))] if found}


def file_of(module: str) -> str | None:
    path = module.replace(".", "/")
    return next((each for each in (f"{path}.py", path) if (ROOT / each).exists()), None)


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_stage_imports_is_among_its_dependencies(stage: str) -> None:
    listed = [each for each in STAGES[stage]["deps"] if each.startswith("cairn/")]
    used = imported(ROOT / "stages" / f"{stage}.py") - NOT_LISTED
    assert used
    assert {each for each in used if not any(each == dep or each.startswith(f"{dep}/") for dep in listed)} == set()


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_stage_depends_on_is_there(stage: str) -> None:
    outs = [out for each in STAGES.values() for out in each.get("outs", [])]
    metrics = [next(iter(out)) for each in STAGES.values() for out in each.get("metrics", [])]
    for dep in STAGES[stage]["deps"]:
        assert (ROOT / dep).exists() or any(dep == out or dep.startswith(f"{out}/") for out in outs + metrics)
