"""Which params rerun which stages: docs/same-bytes.md against real DVC, and against what the stages' code reads."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.repo import Repo
from whole.project import ROOT, TINY, clone, environment, outs

from cairn.composing import compose
from cairn.tracking import flat
from cairn.yamls import read_yaml

Table = dict[str, set[str]]  # name of a param or block -> stages
STAGES: dict[str, dict[str, Any]] = read_yaml(ROOT / "dvc.yaml")["stages"]
# Read, but of no consequence for what comes out.
IDLE = {
    "fetch": {"fetch.gldv2.workers", "fetch.gldv2.retries", "fetch.gldv2.timeout_s"},
    "clean": {"clean.workers"},
    "train": {"train.workers"},
    # Any number of processes embeds the same bytes. The untrained network has no neck, attention or mirror image.
    "embed": {"processes", "train.dimensions", "train.attention", "train.mirrored"},
}
# Read with other data or weights than this test has.
ELSEWHERE = {
    "fetch": {"fetch.folder", *(f"fetch.gldv2.{name}" for name in ("base_url", "split", "labels"))}
    | {"fetch.gldv2.first_shard", "fetch.gldv2.last_shard"},
    "clean": {"clean.jpeg_quality"},  # where a photo is larger than clean.short_side
    "train": {"train.finetune"},
    "embed": {"train.finetune.image_size"},
    "evaluate": {"index.recall", "index.nprobe"},  # where the index of fewer photos is inverted lists
}


def documented() -> Table:
    """The table of the page."""
    rows = re.findall(r"^\| (`.*`) \| ([a-z, ]+) \|$", (ROOT / "docs" / "same-bytes.md").read_text(), re.MULTILINE)
    table: Table = {}
    for names, stages in rows:
        for name in re.findall(r"`([^`]+)`", names):
            assert name not in table, f"{name} stands twice in the table"
            table[name] = set() if stages == "none" else set(stages.split(", "))
    return table


def beginnings(param: str) -> list[str]:
    """The blocks that a param is in, and itself, the longest name first."""
    parts = param.split(".")
    return [".".join(parts[:end]) for end in range(len(parts), 0, -1)]


def stages_of(param: str, table: Table) -> set[str]:
    """What the longest name in the table says."""
    found = next((name for name in beginnings(param) if name in table), None)
    assert found is not None, f"docs/same-bytes.md says nothing about {param}"
    return table[found]


def listed(param: str) -> dict[str, str]:
    """The stages that dvc.yaml lists a param for, with the name that it is listed by."""
    return {
        stage: name for stage, block in STAGES.items() for name in beginnings(param) if name in block.get("params", [])
    }


def put(content: dict[str, Any], param: str, value: Any) -> None:
    *path, last = param.split(".")
    for part in path:
        content = content[part]
    assert last in content
    content[last] = value


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A repository in which, as far as DVC knows, all stages have run."""
    folder = tmp_path_factory.mktemp("status")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder)
    (folder / ".dvcignore").write_text("__pycache__\n")
    for stage in STAGES.values():
        for name in outs(stage) + stage["deps"]:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix:
                path.write_text(name)
            else:
                path.mkdir(exist_ok=True)
    for command in (["init", "--no-scm", "-q"], ["config", "core.analytics", "false"], ["commit", "-f", "-q"]):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=folder, check=True)
    before = Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


def changed_stages(repo: Repo) -> set[str]:
    """The stages that DVC would run for a param, not for what an earlier stage might make anew."""
    found = set()
    for stage, why in repo.status().items():
        files = {file for part in why for file in part.get("changed deps", {})}
        assert files == {"params.yaml"}, why
        found.add(stage)
    return found


def test_every_param_is_on_the_page_and_dvc_yaml_says_the_same() -> None:
    params, table = list(flat(read_yaml(ROOT / "params.yaml"))), documented()
    assert {param: set(listed(param)) for param in params} == {param: stages_of(param, table) for param in params}
    unknown = [name for name in table if not any(name in beginnings(param) for param in params)]
    assert not unknown, f"docs/same-bytes.md names what params.yaml has not: {unknown}"


def test_dvc_reruns_those_stages_when_one_param_changes(project: Path) -> None:
    content, table = read_yaml(ROOT / "params.yaml"), documented()
    alike = {str(listed(param)): param for param in flat(content)}  # DVC looks at the names that are listed
    with Repo(str(project)) as repo:
        assert changed_stages(repo) == set()
        for param in alike.values():
            changed = yaml.safe_load(yaml.safe_dump(content))
            put(changed, param, "another")
            (project / "params.yaml").write_text(yaml.safe_dump(changed))
            assert changed_stages(repo) == stages_of(param, table), param


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """What the stages' code reads, on tiny data."""
    folder = clone(tmp_path_factory.mktemp("read"))
    compose(folder, folder / "params.yaml", TINY)
    command = [sys.executable, str(ROOT / "tests" / "whole" / "params_read.py"), *STAGES]
    done = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return {stage: set(names) for stage, names in json.loads(done.stdout).items()}


def test_a_stage_reads_no_param_that_dvc_does_not_know_of(read: dict[str, set[str]]) -> None:
    unlisted = {
        stage: {name for name in names if stage not in listed(name)} - IDLE.get(stage, set())
        for stage, names in read.items()
    }
    assert not any(unlisted.values()), unlisted


def test_a_stage_depends_on_no_param_that_it_does_not_read(read: dict[str, set[str]]) -> None:
    unread = {
        stage: {name for name in block["params"] if not any(name in beginnings(param) for param in read[stage])}
        for stage, block in STAGES.items()
    }
    assert {stage: names - ELSEWHERE.get(stage, set()) for stage, names in unread.items()} == {
        stage: set() for stage in STAGES
    }
