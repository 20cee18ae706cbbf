"""MLflow: a log of every stage's run. One truth stays in git and dvc.lock; this can be rebuilt from them.

The database is `mlflow.db` in the project's root (of the repository that DVC was started in, so that runs of
`dvc exp run --temp` and `--queue` meet in one place); MLFLOW_TRACKING_URI names another.
"""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cairn.files import written_aside

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it prints tracebacks of what is told here

# Tags of a run.
LINEAGE_TAG = "cairn.lineage"
STAGE_TAG = "cairn.stage"
RESTORED_TAG = "cairn.restored"  # DVC brought its outs back, and nothing ran
RESUMED_TAG = "cairn.resumed"  # it went on from what a killed run had done, so that its time is not all it took
COMMIT_TAG = "git.commit"
DATABASE = "mlflow.db"


class TrackingError(RuntimeError):
    """MLflow's database cannot be used; the message names it, and the ways out."""


def troubles() -> tuple[type[Exception], ...]:
    """What MLflow raises where its database cannot be used."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError


@contextmanager
def _told() -> Iterator[None]:
    """Raise TrackingError in the place of MLflow's own."""
    where = str(root() / DATABASE) if _is_ours() else "the database that MLFLOW_TRACKING_URI names"
    try:
        yield
    except troubles() as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise TrackingError(
            f"{where}: MLflow cannot use it: {cause}\n"
            f"Make room if its disk is full; remove a broken {DATABASE}, and say `cairn backfill` when all is done, "
            "which logs from reports/; or do without: `CAIRN_NO_MLFLOW=1 dvc repro` (one stage alone: --no-mlflow)."
        ) from error


def root() -> Path:
    """Where the database lies: the repository that DVC was started in, else the current folder."""
    return Path(os.environ.get("DVC_ROOT") or Path.cwd())


def tracking_uri() -> str:
    """Where runs are logged."""
    return os.environ.get("MLFLOW_TRACKING_URI") or _our_uri()


def _our_uri() -> str:
    return f"sqlite:///{root() / DATABASE}"


def _is_ours() -> bool:
    return tracking_uri() == _our_uri()


def experiment_name() -> str:
    """The MLflow experiment that runs are logged to: CAIRN_MLFLOW_EXPERIMENT, else `cairn`."""
    return os.environ.get("CAIRN_MLFLOW_EXPERIMENT", "cairn")


def choose_experiment() -> None:
    """Log to the experiment of `experiment_name`; its pictures lie beside our own database, in mlartifacts/."""
    import mlflow

    _use_database()
    name = experiment_name()
    if _is_ours() and mlflow.get_experiment_by_name(name) is None:
        mlflow.create_experiment(name, artifact_location=(root() / "mlartifacts").as_uri())
    mlflow.set_experiment(name)


def _use_database() -> None:
    """Have MLflow use the database that tracking_uri names.

    Our own is made whole or not at all: of one that a kill left half made MLflow says for ever that its schema is out
    of date.
    """
    import mlflow

    uri, database = tracking_uri(), root() / DATABASE
    if _is_ours() and not database.exists():
        with written_aside(database) as aside:
            mlflow.set_tracking_uri(f"sqlite:///{aside}")
            mlflow.search_experiments()
    mlflow.set_tracking_uri(uri)  # it sets MLFLOW_TRACKING_URI too


@contextmanager
def stage_run(
    stage: str, params: Mapping[str, Any], lineage: str, restored: bool = False, resumed: bool = False
) -> Iterator[Any]:
    """An MLflow run for one stage, with its params and tags; yields a function that logs what came of it.

    The function takes the metrics and, as cairn.stage.Report has them, the history, pictures and datasets.
    Raises TrackingError, but for an error of the work within, which goes first.
    """
    import mlflow

    with _told():
        choose_experiment()
        mlflow.start_run(run_name=stage)
    try:
        with _told():
            mlflow.set_tags(tags(stage, lineage, restored, resumed))
            mlflow.log_params({name: str(value)[:6000] for name, value in flat(params).items()})
        yield _log
    except BaseException:
        with suppress(*troubles()):
            mlflow.end_run("FAILED")
        raise
    with _told():
        mlflow.end_run()


@_told()
def _log(
    metrics: Mapping[str, float],
    history: Sequence[Mapping[str, float]] = (),
    pictures: Sequence[Path] = (),
    datasets: Mapping[str, Path] | None = None,
) -> None:
    import mlflow

    mlflow.log_metrics({name: float(value) for name, value in metrics.items()})
    for row in history:
        mlflow.log_metrics({k: v for k, v in row.items() if k != "epoch"}, step=int(row["epoch"]))
    for picture in pictures:
        mlflow.log_artifact(str(picture), "pictures")
    for name, table in (datasets or {}).items():
        mlflow.log_input(_dataset(name, table), context=name)


def _dataset(name: str, table: Path) -> Any:
    import mlflow
    import pandas as pd

    warnings.filterwarnings("ignore", message="Hint: Inferred schema contains integer")
    warnings.filterwarnings("ignore", message="The specified dataset source can be interpreted")
    digest = hashlib.sha256(table.read_bytes()).hexdigest()[:8]
    read = pd.read_feather if table.suffix == ".arrow" else pd.read_parquet
    return mlflow.data.from_pandas(read(table).head(1000), source=str(table), name=name, digest=digest)


def tags(stage: str, lineage: str, restored: bool, resumed: bool) -> dict[str, str]:
    """What a run is found by: its lineage, the commit and whether it was clean, the DVC experiment."""
    found = {
        LINEAGE_TAG: lineage,
        STAGE_TAG: stage,
        RESTORED_TAG: str(restored).lower(),
        RESUMED_TAG: str(resumed).lower(),
        COMMIT_TAG: _git("rev-parse", "HEAD"),
        "git.dirty": str(bool(_git("status", "--porcelain", "--untracked-files=no"))).lower(),
    }
    for variable in ("DVC_STAGE", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV"):
        if os.environ.get(variable):
            found[variable] = os.environ[variable]
    return found


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


@_told()
def known_lineages() -> set[str]:
    """The lineages that MLflow has a finished run for. Raises TrackingError."""
    import mlflow

    _use_database()
    runs = mlflow.search_runs(
        search_all_experiments=True, output_format="list", filter_string="attributes.status = 'FINISHED'"
    )
    return {run.data.tags[LINEAGE_TAG] for run in runs if LINEAGE_TAG in run.data.tags}


def flat(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested blocks as one level of dotted names."""
    result: dict[str, Any] = {}
    for name, value in params.items():
        if isinstance(value, Mapping):
            result.update(flat(value, f"{prefix}{name}."))
        else:
            result[f"{prefix}{name}"] = value
    return result
