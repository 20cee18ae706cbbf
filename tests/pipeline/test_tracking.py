"""MLflow over a real SQLite file: what a stage logs is found by its lineage, and what was restored is filled in."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pyarrow as pa
import pytest
import yaml
from whole.kill import impossible, mounted, resized

from cairn.backfill import backfill
from cairn.client.main import main
from cairn.files import write_table
from cairn.leaderboard import LeaderboardError, read
from cairn.lineage import lineages_locked
from cairn.tracking import LINEAGE_TAG, TrackingError, flat, known_lineages, stage_run


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_EXP_NAME", "brave-stone")
    return tmp_path


def only_run() -> mlflow.entities.Run:
    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert len(runs) == 1
    return runs[0]


def test_a_stage_is_logged_with_params_metrics_tags_pictures_and_data(store: Path) -> None:
    picture = store / "curve.png"
    picture.write_bytes(b"png")
    table = store / "images.parquet"
    write_table(table, pa.table({"image_id": ["a", "b"]}))
    history = [{"epoch": 1.0, "loss": 3.0}, {"epoch": 2.0, "loss": 2.0}]
    with stage_run("train", {"seed": 1, "train": {"lr": 0.1}}, "abc", resumed=True) as log:
        log({"gap": 0.5}, history, [picture], {"clean": table})
    run = only_run()
    assert run.data.params == {"seed": "1", "train.lr": "0.1"}
    assert run.data.metrics == {"gap": 0.5, "loss": 2.0}
    assert run.data.tags[LINEAGE_TAG] == "abc"
    assert run.data.tags["cairn.stage"] == "train"
    assert (run.data.tags["cairn.restored"], run.data.tags["cairn.resumed"]) == ("false", "true")
    assert run.data.tags["DVC_EXP_NAME"] == "brave-stone"
    assert [item.dataset.name for item in run.inputs.dataset_inputs] == ["clean"]
    client = mlflow.MlflowClient()
    assert [point.value for point in client.get_metric_history(run.info.run_id, "loss")] == [3.0, 2.0]
    assert [item.path for item in client.list_artifacts(run.info.run_id, "pictures")] == ["pictures/curve.png"]
    assert known_lineages() == {"abc"}
    assert (store / "mlflow.db").exists()
    assert [path.name for path in (store / "mlartifacts").rglob("*.png")] == ["curve.png"]


def test_a_kill_while_the_database_is_made_leaves_none(store: Path) -> None:
    """Killed as soon as anything is on the disk, while MLflow makes its tables."""
    making = subprocess.Popen([sys.executable, "-c", "from cairn.tracking import choose_experiment as do; do()"])
    while not list(store.glob("*mlflow.db*")):
        assert making.poll() is None
        time.sleep(0.001)
    making.kill()
    making.wait()
    assert not (store / "mlflow.db").exists()
    with stage_run("train", {}, "abc"):
        pass
    assert known_lineages() == {"abc"}
    assert [path.name for path in store.glob("*mlflow.db*")] == ["mlflow.db"]


def test_a_stage_that_fails_is_no_known_lineage(store: Path) -> None:
    with pytest.raises(ValueError, match="broken"), stage_run("train", {}, "abc"):
        raise ValueError("broken")
    assert only_run().info.status == "FAILED"
    assert known_lineages() == set()


def test_what_the_run_cache_restored_is_filled_in_once(store: Path) -> None:
    lock = {
        "stages": {
            "split": {
                "cmd": "x",
                "deps": [{"path": "a", "md5": "1"}],
                "params": {"params.yaml": {"split": {"ratio": 0.5}, "seed": 1}},
                "outs": [{"path": "b", "md5": "2"}],
            }
        }
    }
    (store / "dvc.lock").write_text(yaml.safe_dump(lock))
    (store / "reports").mkdir()
    (store / "reports" / "split.json").write_text(json.dumps({"groups": 7}))
    assert backfill(store) == ["split"]
    assert backfill(store) == []
    run = only_run()
    assert run.data.metrics == {"groups": 7.0}
    assert run.data.params == {"split.ratio": "0.5", "seed": "1"}
    assert run.data.tags["cairn.restored"] == "true"
    assert run.data.tags[LINEAGE_TAG] == lineages_locked(store)["split"]


def test_a_store_made_by_looking_keeps_pictures_beside_the_database(store: Path) -> None:
    assert known_lineages() == set()
    with stage_run("train", {}, "abc"):
        pass
    assert mlflow.get_experiment_by_name("cairn").artifact_location == (store / "mlartifacts").as_uri()


def broken(store: Path, left: int) -> Path:
    """A database of which a piece is whole."""
    with stage_run("train", {}, "abc"):
        pass
    database = store / "mlflow.db"
    database.write_bytes(database.read_bytes()[:left] + b"no database" * 1000)
    return database


@pytest.mark.parametrize("left", [0, 100_000])
def test_a_broken_database_is_named_with_the_ways_out(
    store: Path, left: int, capsys: pytest.CaptureFixture[str]
) -> None:
    database = broken(store, left)
    said = rf"^{database}: MLflow cannot use it: .*\n.*cairn backfill.*CAIRN_NO_MLFLOW=1 dvc repro.*--no-mlflow"
    with pytest.raises(TrackingError, match=said), stage_run("train", {}, "abc"):
        pytest.fail("begun without a log")
    (store / "dvc.lock").write_text("stages: {split: {cmd: x}}")
    assert main(["backfill"]) == 2
    assert f"cairn backfill: {database}: " in capsys.readouterr().err
    with pytest.raises(LeaderboardError, match=f"{database}: MLflow cannot read it"):
        read("cairn")
    database.unlink()
    subprocess.run([sys.executable, "-c", "from cairn.tracking import choose_experiment as do; do()"], check=True)
    assert database.read_bytes().startswith(b"SQLite format 3")


def test_an_error_of_the_work_goes_before_one_of_the_log(store: Path) -> None:
    with pytest.raises(ValueError, match="of the work"), stage_run("train", {}, "abc"):
        broken_meanwhile(store)
        raise ValueError("of the work")
    (store / "mlflow.db").unlink()
    with pytest.raises(TrackingError, match="cannot use it"), stage_run("train", {}, "abc"):
        broken_meanwhile(store)


def broken_meanwhile(store: Path) -> None:
    (store / "mlflow.db").write_bytes(b"no database" * 1000)


def test_a_full_disk_is_said(store: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    if "disk" in impossible():
        pytest.skip(impossible()["disk"])
    (store / "small").mkdir()
    with mounted(store / "small"):
        monkeypatch.chdir(store / "small")
        with pytest.raises(TrackingError, match=r"disk is full.*\nMake room"), stage_run("train", {}, "abc") as log:
            resized(store / "small", Path("mlflow.db").stat().st_size)
            log({}, [{"epoch": float(epoch), "loss": 1.0} for epoch in range(2000)])
        monkeypatch.chdir(store)
    assert "Traceback" not in capfd.readouterr().err


def test_blocks_become_dotted_names() -> None:
    assert flat({"a": {"b": 1, "c": {"d": None}}, "e": [1]}) == {"a.b": 1, "a.c.d": None, "e": [1]}
