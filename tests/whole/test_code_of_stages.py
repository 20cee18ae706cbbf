"""A stage runs anew when the code that it calls has changed: what its script imports is among its dependencies."""

from __future__ import annotations

import ast
from functools import cache

import pytest
import yaml
from whole.project import ROOT

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# Neither these nor what they import is listed.
NOT_LISTED = {
    "cairn/stage.py": "the door, of all stages: every change to it would run everything anew",
    "cairn/params.py": "dvc.yaml lists the params themselves",
    "cairn/processes.py": "how work is shared out; the param `processes` is listed where the outs depend on it",
    "cairn/files.py": "how files are written, by all stages: every change to it would run everything anew",
    "cairn/progress.py": "what is shown meanwhile",
    "cairn/gallery/versions.py": "export removes what was published of an earlier one, which is no out",
    "cairn/serving/threads.py": "of the server",
}


@cache
def imported(file: str) -> frozenset[str]:
    """The library's files that one of them, or a script, imports from anywhere in it."""
    nodes = list(ast.walk(ast.parse((ROOT / file).read_text())))
    modules = [(name.name, "") for node in nodes if isinstance(node, ast.Import) for name in node.names]
    modules += [
        (str(node.module), name.name) for node in nodes if isinstance(node, ast.ImportFrom) for name in node.names
    ]
    ours = [(module, name) for module, name in modules if module.split(".")[0] == "cairn"]
    return frozenset(
        found for module, name in ours for found in [file_of(f"{module}.{name}") or file_of(module)] if found
    )


def file_of(module: str) -> str | None:
    path = module.replace(".", "/")
    return next((each for each in (f"{path}.py", f"{path}/__init__.py") if (ROOT / each).exists()), None)


def code_of(stage: str) -> set[str]:
    """The library's files that a stage may run, but for NOT_LISTED."""
    found: set[str] = set()
    coming = {f"stages/{stage}.py"}
    while coming:
        found |= coming
        coming = {each for file in coming for each in imported(file)} - found - set(NOT_LISTED)
    return {file for file in found if file.startswith("cairn/")}


def within(file: str, dependency: str) -> bool:
    return file == dependency or file.startswith(f"{dependency}/")


def test_imports_are_followed_through_modules_functions_and_packages() -> None:
    assert {"cairn/metrics/gap.py", "cairn/shards.py", "cairn/allocation.py"} <= code_of("train")
    assert {"cairn/losses/__init__.py", "cairn/losses/arcface.py"} <= code_of("train")  # imported in a function
    assert {"cairn/sources/__init__.py", "cairn/sources/synthetic/scene.py"} <= code_of("fetch")
    assert not any(within(file, "cairn/networks") for file in code_of("index"))


@pytest.mark.parametrize("stage", STAGES)
def test_the_code_that_a_stage_runs_is_among_its_dependencies(stage: str) -> None:
    listed = STAGES[stage]["deps"]
    assert sorted(file for file in code_of(stage) if not any(within(file, dep) for dep in listed)) == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_no_code_that_it_does_not_run(stage: str) -> None:
    listed = [dep for dep in STAGES[stage]["deps"] if dep.startswith("cairn/")]
    assert [dep for dep in listed if not any(within(file, dep) for file in code_of(stage))] == []


def test_what_is_not_listed_would_have_to_be() -> None:
    stages = {f"stages/{stage}.py" for stage in STAGES}
    used = {each for stage in STAGES for file in code_of(stage) | stages for each in imported(file)}
    assert set(NOT_LISTED) <= used


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_stage_depends_on_is_there(stage: str) -> None:
    outs = [out for each in STAGES.values() for out in each.get("outs", [])]
    metrics = [next(iter(out)) for each in STAGES.values() for out in each.get("metrics", [])]
    for dep in STAGES[stage]["deps"]:
        assert (ROOT / dep).exists() or any(dep == out or dep.startswith(f"{out}/") for out in outs + metrics)
