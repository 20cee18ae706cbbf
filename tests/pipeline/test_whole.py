"""The whole pipeline by DVC in two clones of the project: the same bytes, and sound figures.

The second clone lies and runs elsewhere in every way, is killed in the middle of training, and goes on from there.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq
import pytest
from pipeline.served import check, compare
from whole.project import TINY, TINY_DATA, clone, environment, repro
from whole.running import Run
from whole.verify import changes, cloned, compared, nothing_from_elsewhere, together

from cairn.manifest import read_images
from cairn.shards import ShardReader
from cairn.tracking import DATABASE


def killed_repro(run: Run, when: Callable[[], bool]) -> None:
    """Start `dvc repro` and kill all of it as soon as `when` says so."""
    process = run.start()
    deadline = time.monotonic() + 1800  # a process that has ended is seen at once
    while not when():
        assert process.poll() is None, run.said()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = clone(tmp_path_factory.mktemp("first"))
    repro(folder)
    return folder


@pytest.fixture
def changing(first: Path, tmp_path: Path) -> Path:
    """A copy of `first`, for a test that changes what is in it."""
    return Path(shutil.copytree(first, tmp_path / "changing", symlinks=True))


def report(folder: Path, stage: str) -> dict[str, object]:
    content: dict[str, object] = json.loads((folder / "reports" / f"{stage}.json").read_text())
    return content


def test_a_second_clone_elsewhere_and_killed_in_training_ends_with_the_same_bytes(first: Path) -> None:
    with TemporaryDirectory(prefix="cairn-elsewhere-") as name:
        work = Path(name)
        work.chmod(0o755)  # another user comes here
        run = cloned(work, together(changes(work)), tiny=True)
        killed_repro(run, lambda: any(run.folder.glob("build/.partial/train-*/checkpoint.pt")))
        assert not (run.folder / "build" / "model").exists()
        assert run.to_its_end() == 0, run.said()[-3000:]
        nothing_from_elsewhere(run)
        assert compared(first, run.folder, None) == []
        assert not any((run.folder / "build" / ".partial").iterdir())
        assert (run.folder / DATABASE).exists()


def test_counts_add_up_from_stage_to_stage(first: Path) -> None:
    fetch, clean, split = (report(first, name) for name in ("fetch", "clean", "split"))
    assert fetch["images"] == 90 + 24 + 4 + 4 + 3
    assert clean["fetched"] == fetch["images"]
    assert clean["kept"] + clean["dropped"] == clean["fetched"]  # type: ignore[operator]
    reasons = clean["reasons"]
    assert isinstance(reasons, dict)
    assert (reasons["undecodable"], reasons["exact duplicate"]) == (3, 4)
    assert sum(side["images"] for side in split["sides"].values()) == clean["kept"]  # type: ignore[attr-defined]
    embedded, evaluated = report(first, "embed"), report(first, "evaluate")
    assert embedded["images"] == clean["kept"]
    test_side = split["sides"]["test"]  # type: ignore[index]
    assert evaluated["queries"] + evaluated["distractors"] == test_side["images"]  # type: ignore[operator]
    predictions = pq.read_table(first / "build" / "evaluation" / "predictions.parquet")
    assert predictions.num_rows == test_side["images"]


def test_the_report_has_its_keys_and_the_baseline_beside_it(first: Path) -> None:
    keys = ["gap", "accuracy", "micro_f1", "recall_at_1", "recall_at_5", "recall_at_10", "map_at_100"]
    keys += ["coverage_at_precision_95", "queries", "distractors"]
    content = report(first, "evaluate")
    for place in (content, content["without_distractors"], content["baseline"]):
        assert isinstance(place, dict)
        assert all(isinstance(place[key], int | float) for key in keys)


def test_figures_keep_to_each_other_and_to_the_photos_that_they_are_of(first: Path) -> None:
    content = report(first, "evaluate")
    for place in (content, content["without_distractors"], content["baseline"]):
        assert isinstance(place, dict)
        assert 0 < place["recall_at_1"] <= place["recall_at_5"] <= place["recall_at_10"] <= 1
        assert 0 < place["gap"] <= place["accuracy"] <= 1
    assert content["gap"] < content["without_distractors"]["gap"]  # type: ignore[index]
    rows = pq.read_table(first / "build" / "evaluation" / "predictions.parquet").to_pylist()
    side_of = {row["image_id"]: row["side"] for row in pq.read_table(first / "build" / "split.parquet").to_pylist()}
    assert {row["image_id"] for row in rows} == {photo for photo, side in side_of.items() if side == "test"}
    assert {side_of[row["nearest"]] for row in rows} <= {"train", "index"}
    shown = {row["image_id"]: row["landmark_id"] for row in read_images(first / "build" / "clean").to_pylist()}
    right = [row["landmark_id"] == shown[row["image_id"]] for row in rows if shown[row["image_id"]] is not None]
    assert content["accuracy"] == pytest.approx(sum(right) / len(right), abs=1e-6)


def test_served_answers_and_embeddings_are_the_evaluated_ones(first: Path) -> None:
    check(compare(first))


def test_nothing_to_do_runs_nothing_and_one_param_reruns_what_depends_on_it(changing: Path) -> None:
    assert "Data and pipelines are up to date" in repro(changing)
    params = changing / "params.yaml"
    params.write_text(params.read_text().replace("power: 8.0", "power: 4.0"))
    said = repro(changing)
    assert [line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage")] == [
        "evaluate",
        "export",
    ]


def dvc(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def commit(folder: Path) -> None:
    author = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", "add", "--all"], cwd=folder, check=True)
    subprocess.run(["git", *author, "commit", "--quiet", "--message", "a state"], cwd=folder, check=True)


def overrides(names: list[str]) -> list[str]:
    return [part for name in names for part in ("-S", name)]


def test_metrics_and_plots_are_declared(first: Path) -> None:
    assert "reports/evaluate.json" in dvc(first, "metrics", "show", "--json")
    plots = dvc(first, "plots", "show", "--json")
    assert "history.csv" in plots
    assert "surest_right.png" in plots


def test_own_photos_and_the_baseline_run_as_experiments_that_can_be_compared(
    changing: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    photos = tmp_path_factory.mktemp("photos")
    with ShardReader(changing / "build" / "raw") as reader:
        for row in read_images(changing / "build" / "raw").to_pylist():
            path = photos / ("others" if row["landmark_id"] is None else "landmarks") / row["source_name"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(reader.read(row["shard"], row["offset"], row["size"]))
    commit(changing)
    given = [
        "fetch.source=folder",
        f"fetch.folder.landmarks={photos}/landmarks",
        f"fetch.folder.distractors={photos}/others",
    ]
    dvc(changing, "exp", "run", "-n", "own", *overrides([*TINY, *given]))
    own = report(changing, "evaluate")
    assert report(changing, "fetch")["source"] == "folder"
    dvc(changing, "exp", "run", "-n", "plain", *overrides([*TINY_DATA, *given, "experiment=baseline"]))
    plain = report(changing, "evaluate")
    # The preset is the baseline that stood beside the first result: the same photos, split and network.
    baseline = own["baseline"]
    assert isinstance(baseline, dict)
    assert {key: plain[key] for key in baseline} == baseline
    shown = dvc(changing, "exp", "show", "--json")
    assert '"own"' in shown
    assert '"plain"' in shown
    assert "reports/evaluate.json" in dvc(changing, "metrics", "diff", "own", "plain", "--json")
    assert "precision_coverage.csv" in dvc(changing, "plots", "diff", "own", "plain", "--json")
