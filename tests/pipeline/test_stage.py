"""What stages share: the report as numbers, errors without a traceback, a kept folder that goes when all is well."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sources.gldv2_layout import serve, write_layout
from whole.project import clone, repro

from cairn.composing import compose
from cairn.files import md5_of
from cairn.lineage import lineages_locked
from cairn.stage import PARTIAL, leave, numbers, prepare
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


SOLVED = """
import hashlib, os, sys
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[1])])
from pathlib import Path
import numpy as np
from cairn.params import load_params
from cairn.stage import use_threads
use_threads(load_params(Path("params.yaml")).model_copy(update={"threads": 2}))
given = np.random.default_rng(0).normal(size=(900, 300))
print(hashlib.md5(np.linalg.svd(given, full_matrices=False)[2].tobytes()).hexdigest())
"""


def test_the_number_of_cores_plays_no_part_in_what_numpy_works_out() -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("wants two cores")
    said = [subprocess.check_output([sys.executable, "-c", SOLVED, n], cwd=ROOT, text=True) for n in ("1", "2")]
    assert said[0] == said[1]


def test_a_stage_without_its_input_says_what_to_run(project: Path) -> None:
    done = stage(project, "split")
    assert done.returncode == 1
    assert "dvc" in done.stderr
    assert "build/clean" in done.stderr


def test_folders_that_nobody_goes_on_from_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_STAGE", "train")
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\nstages:\n  fetch: {cmd: x}\n")
    (recorded,) = lineages_locked(tmp_path).values()
    for name, lineage in {"fetch-1": recorded, "clean-1": "unrecorded", "train-1": None, "train-2": None}.items():
        (PARTIAL / name).mkdir(parents=True)
        (PARTIAL / name / "work").touch()
        if lineage is not None:
            leave(PARTIAL / name, lineage)
    assert prepare(PARTIAL / "train-2", "train")
    assert not prepare(PARTIAL / "embed-1", "embed")  # nothing to go on from
    (PARTIAL / "embed-1").rmdir()
    assert {path.as_posix() for path in PARTIAL.rglob("*")} == {
        f"{PARTIAL}/{name}" for name in ("clean-1", "clean-1/work", "clean-1/finished", "train-2", "train-2/work")
    }


def test_the_folder_of_a_finished_run_stays_for_dvc_alone_and_only_if_there_is_work_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_STAGE", "train")
    (tmp_path / "empty").mkdir()
    leave(tmp_path / "empty", "a")
    assert not (tmp_path / "empty").exists()
    monkeypatch.delenv("DVC_STAGE")
    (tmp_path / "by-hand").mkdir()
    (tmp_path / "by-hand" / "work").touch()
    leave(tmp_path / "by-hand", "a")
    assert not (tmp_path / "by-hand").exists()


def test_downloads_outlive_a_kill_of_dvc_after_the_stage_and_no_wish_for_new_ones(tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "server")
    folder = tmp_path / "project"
    folder.mkdir()
    clone(folder)
    with serve(layout.root) as (url, manners):
        given = {"base_url": url, "labels": "full", "last_shard": 2}
        compose(folder, folder / "params.yaml", ["fetch.source=gldv2", *(f"fetch.gldv2.{k}={given[k]}" for k in given)])

        def tars_fetched(*arguments: str) -> int:
            manners.requests.clear()
            repro(folder, "fetch", *arguments)
            return sum(count for path, count in manners.requests.items() if path.endswith(".tar"))

        assert tars_fetched() == 3
        lock, made = (folder / "dvc.lock").read_bytes(), {p.name: md5_of(p) for p in (folder / "build/raw").iterdir()}
        # As a kill leaves it while DVC hashes the outs.
        (folder / "dvc.lock").unlink()
        shutil.rmtree(folder / ".dvc" / "cache")
        assert tars_fetched() == 0
        assert (folder / "dvc.lock").read_bytes() == lock
        assert {p.name: md5_of(p) for p in (folder / "build/raw").iterdir()} == made
        assert tars_fetched("--force") == 3
