"""What stages share: the report as numbers, errors without a traceback, a kept folder that goes when all is well."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cairn.stage import numbers
from cairn.yamls import read_yaml

ROOT = Path(__file__).parents[2]


def stage(folder: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "stages" / f"{name}.py"), *arguments],
        cwd=folder,
        env={**os.environ, "CAIRN_NO_MLFLOW": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("cairn", "stages"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def test_nested_reports_become_dotted_numbers() -> None:
    content = {"gap": 0.5, "sides": {"train": {"images": 3}}, "name": "x", "rows": [1], "ok": True, "p@1": 1}
    assert numbers(content) == {"gap": 0.5, "sides.train.images": 3.0, "ok": 1.0, "p_1": 1.0}


NAMES = ("fetch", "validate", "clean", "split", "train", "embed", "index", "evaluate", "export")


def test_dvc_yaml_has_these_nine_stages_and_a_script_for_each() -> None:
    stages = read_yaml(ROOT / "dvc.yaml")["stages"]
    assert tuple(stages) == NAMES
    assert all(stages[name]["cmd"] == f"python stages/{name}.py" for name in NAMES)
    assert {path.stem for path in (ROOT / "stages").glob("*.py")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_help_explains_and_names_what_is_made(tmp_path: Path, name: str) -> None:
    done = stage(tmp_path, name, "--help")
    assert done.returncode == 0
    assert f"{name}: " in done.stdout
    assert "dvc repro" in done.stdout


def test_a_wrong_param_ends_the_stage_with_its_name_and_no_traceback(project: Path) -> None:
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("shard_mb: 64.0", "shard_mb: -2", 1))
    done = stage(project, "fetch")
    assert done.returncode == 1
    assert "fetch.shard_mb = -2" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (project / "build" / "raw").exists()


def test_a_stage_without_its_input_says_what_to_run(project: Path) -> None:
    done = stage(project, "split")
    assert done.returncode == 1
    assert "dvc" in done.stderr
    assert "build/clean" in done.stderr
