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

from cairn.backfill import backfill
from cairn.files import write_table
from cairn.lineage import lineages_locked
from cairn.tracking import LINEAGE_TAG, StageLog, flat, known_lineages, stage_run


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
    with stage_run("train", {"seed": 1, "train": {"lr": 0.1}}, "abc") as log:
        log(StageLog({"gap": 0.5}, history, [picture], {"clean": table}))
    run = only_run()
    assert run.data.params == {"seed": "1", "train.lr": "0.1"}
    assert run.data.metrics == {"gap": 0.5, "loss": 2.0}
    assert run.data.tags[LINEAGE_TAG] == "abc"
    assert run.data.tags["cairn.stage"] == "train"
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


def test_blocks_become_dotted_names() -> None:
    assert flat({"a": {"b": 1, "c": {"d": None}}, "e": [1]}) == {"a.b": 1, "a.c.d": None, "e": [1]}
