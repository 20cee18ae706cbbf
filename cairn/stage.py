"""What every stage script shares: command line, params, threads, MLflow run, report, errors without a traceback."""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cairn.files import discard, read_json, write_json
from cairn.lineage import lineage_now, lineages_locked, resumable
from cairn.params import Params, load_params
from cairn.processes import joined, launch, rank, started_by_torchrun
from cairn.tracking import flat, stage_run
from cairn.yamls import read_yaml

PARAMS = Path("params.yaml")
BUILD = Path("build")
RAW = BUILD / "raw"
CLEAN = BUILD / "clean"
SPLIT = BUILD / "split.parquet"
MODEL = BUILD / "model"
EMBEDDINGS = BUILD / "embeddings"
TRAINED = EMBEDDINGS / "network"
UNTRAINED = EMBEDDINGS / "baseline"
INDEX = BUILD / "index"
EVALUATION = BUILD / "evaluation"
EXPORT = BUILD / "export"
PICTURES = BUILD / "pictures"
PARTIAL = BUILD / ".partial"
REPORTS = Path("reports")

FULL = {errno.ENOSPC, errno.EDQUOT}
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
NO_ROOM = 2**20  # bytes that are left on a full disk, at most
KEPT = f"what was done is kept in {PARTIAL}/"
FINISHED = "finished"  # a file in a folder below PARTIAL: the lineage of a run that came to its end


@dataclass(frozen=True)
class Job:
    """What a stage is given: its params, and a folder that outlives a killed run of the same `resumable` key."""

    params: Params
    keep: Path


@dataclass(frozen=True)
class Report:
    """What a stage hands back: `content` becomes reports/<stage>.json, the rest goes to MLflow as well."""

    content: Mapping[str, Any]
    history: Sequence[Mapping[str, float]] = ()  # a row an epoch, with the key "epoch"
    pictures: Sequence[Path] = ()
    datasets: Mapping[str, Path] = field(default_factory=dict)  # name -> parquet file, or Arrow file (.arrow)


class StageError(RuntimeError):
    """A stage that cannot go on; the message says what, where, and the way out."""


def run(name: str, work: Callable[[Job], Report | None], description: str | None, several: bool = False) -> None:
    """Run a stage as a command. Errors of this project's own kind end it with their message and status 1.

    A stage for `several` processes starts as many as the param `processes` says, unless torchrun started it already.
    Only the first one logs, and only it has a report.
    """
    parser = argparse.ArgumentParser(
        prog=f"python stages/{name}.py",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"`dvc repro {name}` runs it with all that it depends on; its params are in {PARAMS}.",
    )
    parser.add_argument("--no-mlflow", action="store_true", help="do not log this run (or set CAIRN_NO_MLFLOW=1)")
    logged = not (parser.parse_args().no_mlflow or os.environ.get("CAIRN_NO_MLFLOW"))
    try:
        if several and not started_by_torchrun() and (count := load_params(PARAMS).processes) > 1:
            launch(sys.argv[0], sys.argv[1:], count)
        _run(name, work, logged)
    except (ValueError, OSError, RuntimeError) as error:
        if os.environ.get("CAIRN_TRACEBACK"):
            raise
        message = f"{name}: {error}{way_out(error)}\n(CAIRN_TRACEBACK=1 shows where in the code this was found)"
        print(message, file=sys.stderr)
        sys.exit(1)


def way_out(error: BaseException) -> str:
    """What to do about a full disk or a missing right, where the error does not say it; otherwise nothing."""
    if "dvc repro" in str(error):
        return ""
    numbers = {cause.errno for cause in _causes(error) if isinstance(cause, OSError)}
    if numbers & FULL or (BUILD.exists() and shutil.disk_usage(BUILD).free < NO_ROOM):  # torch and FAISS give no errno
        return f"\nThe disk is full: make room where {BUILD}/ lies, then run `dvc repro` again; {KEPT}."
    if numbers & FORBIDDEN:
        return f"\nGive yourself the right to read and write that, then run `dvc repro` again; {KEPT}."
    return ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _run(name: str, work: Callable[[Job], Report | None], logged: bool) -> None:
    params = load_params(PARAMS)
    raw = read_yaml(PARAMS)
    lineage = lineage_now(Path.cwd(), name, raw)
    keep = PARTIAL / f"{name}-{resumable(Path.cwd(), name, raw, lineage)}"
    resumed = rank() == 0 and prepare(keep, name)
    with joined():
        if rank() > 0:
            work(Job(params, keep))
        else:
            logging = stage_run(name, {**shared(raw), name: raw[name]}, lineage, resumed=resumed)
            with logging if logged else nullcontext() as log:
                report = made(work(Job(params, keep)))
                write_json(REPORTS / f"{name}.json", report.content)
                if log is not None:
                    log(numbers(report.content), report.history, report.pictures, report.datasets)
    if rank() == 0:
        leave(keep, lineage)


def shared(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The params that every stage's run in MLflow has: what all use, and what photos and network it is about."""
    found = {key: raw[key] for key in ("seed", "threads", "processes", "precision")}
    return {**found, "fetch": {"source": raw["fetch"]["source"]}, "train": {"backbone": raw["train"]["backbone"]}}


def prepare(keep: Path, name: str) -> bool:
    """Make the folder `keep` if it is not there, and remove those below PARTIAL that nobody will go on from. Whether
    there is work in it to go on from.

    These are the others of the stage `name`, and of all stages those of finished runs that dvc.lock has: if such a run
    is asked for again (`dvc repro --force`), it is to be made anew.
    """
    recorded = set(lineages_locked(Path.cwd()).values())
    for folder in PARTIAL.glob("*"):
        finished = folder / FINISHED
        other = folder.name.rpartition("-")[0] == name and folder != keep
        if other or (finished.exists() and finished.read_text() in recorded):
            discard(folder)
    keep.mkdir(parents=True, exist_ok=True)
    return any(keep.iterdir())


def leave(keep: Path, lineage: str) -> None:
    """Mark the folder of a run under DVC as finished, or remove it if it is empty or nobody runs after us.

    DVC still has to hash and store the outs. Killed in that, it removes them and runs the stage again.
    """
    if "DVC_STAGE" in os.environ and any(keep.iterdir()):
        (keep / FINISHED).write_text(lineage)
    else:
        discard(keep)


def made(report: Report | None) -> Report:
    """The report of the first process, which always has one."""
    if report is None:
        raise StageError("the first process has no report")
    return report


def numbers(content: Mapping[str, Any]) -> dict[str, float]:
    """Every number in nested blocks, by a name that MLflow allows."""
    return {
        "".join(c if c.isalnum() or c in "_-./" else "_" for c in name): float(value)
        for name, value in flat(content).items()
        if isinstance(value, bool | int | float)
    }


def report_of(name: str) -> dict[str, Any]:
    """A report already written. Raises StageError naming what to run."""
    path = REPORTS / f"{name}.json"
    if not path.exists():
        raise StageError(f"{path}: no such file; run `dvc repro {name}`")
    return dict(read_json(path))


def use_threads(params: Params) -> None:
    """Give torch, FAISS and the BLAS of numpy and FAISS the number of threads that results are repeatable at."""
    import faiss
    import torch
    from threadpoolctl import threadpool_limits

    threadpool_limits(params.threads, user_api="blas")
    torch.set_num_threads(params.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    faiss.omp_set_num_threads(params.threads)
