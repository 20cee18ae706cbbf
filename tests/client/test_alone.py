"""The `client` extra is enough: the command runs where nothing else of the environment can be imported."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from serving.tiny_repository import ROOT, Tiny

# Before the command, in its process: what is not the standard library's, cairn's or among `allowed` is not there.
BLOCKED = """
import sys
from importlib.abc import MetaPathFinder

class OnlyAllowed(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in allowed:
            raise ModuleNotFoundError(f"No module named {top!r}", name=top)

allowed = set(sys.argv.pop(1).split(","))
sys.meta_path.insert(0, OnlyAllowed())
try:
    import pydantic
except ModuleNotFoundError:
    pass
else:
    sys.exit("pydantic was there")
from cairn.client.main import main
sys.exit(main(sys.argv[1:]))
"""


def requirements_of_the_client() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["client"]]


def closure(requirements: list[str]) -> set[str]:
    """Names of the distributions that these need, in this environment, and those need in turn."""
    found: set[tuple[str, str]] = set()
    pending = [Requirement(text) for text in requirements]
    while pending:
        requirement = pending.pop()
        name = canonical(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in found:
                continue
            found.add((name, extra))
            needed = [Requirement(text) for text in metadata.requires(name) or []]
            pending += [each for each in needed if each.marker is None or each.marker.evaluate({"extra": extra})]
    return {name for name, _ in found}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def command() -> list[str]:
    needed = closure(requirements_of_the_client())
    assert {"numpy", "tritonclient", "grpcio", "tqdm"} <= needed
    assert not needed & {"pydantic", "pillow", "torch", "pyarrow"}
    owners = metadata.packages_distributions()
    modules = [module for module, names in owners.items() if needed & {canonical(name) for name in names}]
    return [sys.executable, "-c", BLOCKED, ",".join([*modules, "cairn"])]


def test_the_command_asks(tiny: Tiny, tiny_server: str, tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "eiffel.png").write_bytes(tiny.known[3])
    asked = ["query", "--json", "--check", "1", "--server", tiny_server, str(tmp_path)]
    done = subprocess.run([*command, *asked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["landmark_id"] == 3


def test_what_needs_more_says_what_to_install(command: list[str]) -> None:
    done = subprocess.run([*command, "leaderboard"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.search(r"^cairn leaderboard: No module named '\w+'; install `cairn\[pipeline\]`$", done.stderr, re.M)


def test_the_library_has_no_more_modules_than_it_says(command: list[str]) -> None:
    """Both clients, imported alone."""
    script = command[2].partition("from cairn.client.main")[0] + "import cairn.client; print(cairn.client.AsyncClient)"
    done = subprocess.run([*command[:2], script, command[3]], capture_output=True, text=True, check=False)
    assert "AsyncClient" in done.stdout, done.stderr
