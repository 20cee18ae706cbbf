"""`cairn leaderboard`: the table of experiments, as Markdown, from the runs that MLflow holds and, if asked, a file of
earlier figures (cairn/records.py).

A row is a DVC experiment; runs outside one are the row `workspace`. Experiments named `<preset>-s<seed>` (arcface-s1,
arcface-s2), where <seed> is the seed they ran with, are seeds of one row `<preset>`: it shows their mean and, of two or
more, their sample standard deviation; all must be of the same source of photos and backbone. An experiment that ran
several times counts with its latest finished evaluate run, and so does a seed that two experiments of a row share.
Minutes are those of the train run before it; for a train run that `cairn backfill` restored, those of the earliest real
one with its lineage; a dash where there is none, or it went on from a killed one. Columns without a figure in any row
are left out.

With `--records FILE` the figures of the rows asked for are put into FILE, in place of older ones of the same seed, and
the table is of what FILE then holds; where there is no database, of what it held.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from cairn.files import written_aside
from cairn.records import RecordsError, SeedRecord, merged, read_records, write_records
from cairn.tracking import (
    COMMIT_TAG,
    LINEAGE_TAG,
    RESTORED_TAG,
    RESUMED_TAG,
    STAGE_TAG,
    experiment_name,
    tracking_uri,
    troubles,
)

FEW = "accuracy with at most {} index photo{} a landmark"
UNSEEN = "accuracy on landmarks not trained on"
# Of an evaluate run, by column: the metric's name, and what the column is called.
METRICS = {
    "gap": ("gap", "GAP"),
    "accuracy": ("accuracy", "accuracy"),
    "coverage": ("coverage_at_precision_95", "coverage at 95 % precision"),
    "few_5": ("at_most.5.accuracy", FEW.format(5, "s")),
    "few_1": ("at_most.1.accuracy", FEW.format(1, "")),
    "unseen": ("accuracy_of_unseen_landmarks", UNSEEN),
    "unseen_5": ("at_most.5.accuracy_of_unseen_landmarks", f"{UNSEEN}, at most 5"),
    "unseen_1": ("at_most.1.accuracy_of_unseen_landmarks", f"{UNSEEN}, at most 1"),
}
TITLES = {column: title for column, (_, title) in METRICS.items()} | {"minutes": "training minutes"}
SIDES = {"test": "", "validation": "validation."}  # what a metric's name begins with
WORKSPACE = "workspace"
TABLE = "leaderboard"
DASH = "–"


class LeaderboardError(ValueError):
    """Nothing to make a table of, or nowhere to put it; the message says what, where, and the way out."""


@dataclass(frozen=True)
class Logged:
    """What the table needs of a finished run."""

    experiment: str  # of DVC
    stage: str
    lineage: str
    restored: bool
    resumed: bool
    seed: str | None
    commit: str
    source: str
    backbone: str
    started: int  # milliseconds since 1970
    minutes: float
    metrics: Mapping[str, float]


class Figure(NamedTuple):
    """Of the seeds that have it: the mean, the sample standard deviation where they are two or more, and how many."""

    mean: float
    spread: float | None
    seeds: int


@dataclass(frozen=True)
class Row:
    """An experiment over its seeds; a column that no seed has is not in `figures`."""

    experiment: str
    figures: Mapping[str, Figure]
    seeds: int


def marks(table: str) -> tuple[str, str]:
    """The lines of a Markdown file that a table stands between."""
    return f"<!-- {table} -->", f"<!-- /{table} -->"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line of `cairn leaderboard`."""
    parser.add_argument(
        "--experiment",
        default=experiment_name(),
        metavar="NAME",
        help="the MLflow experiment to read (default: $CAIRN_MLFLOW_EXPERIMENT, or cairn)",
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        default=["*"],
        metavar="NAME",
        help="only these experiments, with * for any letters (default: all)",
    )
    parser.add_argument(
        "--records",
        type=Path,
        metavar="FILE",
        help="a CSV file of figures, to keep in git: put MLflow's into it, and make the table of all that it holds",
    )
    parser.add_argument("--side", choices=SIDES, default="test", help="whose figures (default: test)")
    parser.add_argument("--sort", choices=METRICS, default="gap", help="best first, by this figure (default: gap)")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--json", action="store_true", help="print one JSON object a row, one a line")
    way.add_argument(
        "--into",
        type=Path,
        metavar="FILE",
        help=f"put the table between the lines {marks(TABLE)[0]} and {marks(TABLE)[1]} of a Markdown file",
    )
    parser.add_argument("--table", default=TABLE, metavar="NAME", help="what these lines say instead of leaderboard")


def run(args: argparse.Namespace) -> int:
    """Print the table or put it into a file. Status 0, or 2 if there is nothing to show or nowhere to put it."""
    try:
        rows = ranked(rows_of(_wanted(args), args.side), args.sort)
        if args.into:
            put_into(args.into, markdown(rows), args.table)
        else:
            print("\n".join(json_line(row) for row in rows) if args.json else markdown(rows))
    except (LeaderboardError, RecordsError, OSError) as error:
        print(f"cairn leaderboard: {error}", file=sys.stderr)
        return 2
    return 0


def _wanted(args: argparse.Namespace) -> list[SeedRecord]:
    """The seeds of the rows asked for, of MLflow and of the file of records, which is brought up to date."""

    def asked(records: Sequence[SeedRecord]) -> list[SeedRecord]:
        return [r for r in records if any(fnmatchcase(r.experiment, name) for name in args.rows)]

    earlier = read_records(args.records) if args.records else []
    logged = [] if earlier and database_missing() else asked(records_of(read(args.experiment)))
    check_alike([*asked(earlier), *logged])
    if args.records and logged:
        write_records(args.records, merged(earlier, logged))
    if not (found := asked(merged(earlier, logged))):
        raise LeaderboardError(
            f"{tracking_uri()}: no finished evaluate run in the experiment {args.experiment!r} named "
            f"{' or '.join(args.rows)}; `dvc repro` and `dvc exp run` log them"
        )
    return found


def check_alike(records: Sequence[SeedRecord]) -> None:
    """Raises LeaderboardError if seeds of one row are known to be of different photos or backbones."""
    first: dict[str, SeedRecord] = {}
    for record in records:
        if not record.source:
            continue
        other = first.setdefault(record.experiment, record)
        if (other.source, other.backbone) != (record.source, record.backbone):
            raise LeaderboardError(
                f"{record.experiment}: seed {other.seed} is of {other.backbone} on photos of the source "
                f"{other.source}, seed {record.seed} of {record.backbone} on {record.source}; a row is a mean over "
                "seeds alone. Leave it out (--rows), run one under another name (`dvc exp run -n`), or use another "
                "--experiment or --records file"
            )


def database_missing() -> bool:
    """Whether runs are logged to a SQLite file that is not there."""
    uri = tracking_uri()
    return uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists()


def read(experiment: str) -> list[Logged]:
    """The finished runs of an MLflow experiment, earliest first.

    Raises LeaderboardError if there is no database, no such experiment, or MLflow cannot read it.
    """
    uri = tracking_uri()
    if database_missing():  # asked first, since MLflow would make it
        file = uri.removeprefix("sqlite:///")
        raise LeaderboardError(f"{file}: no such MLflow database; `dvc repro` and `dvc exp run` make it")
    import mlflow

    mlflow.set_tracking_uri(uri)
    try:
        found = mlflow.get_experiment_by_name(experiment)
        if found is None:
            names = ", ".join(sorted(known.name for known in mlflow.search_experiments()))
            raise LeaderboardError(f"{uri}: no experiment {experiment!r}; there are {names}")
        runs = mlflow.search_runs(
            [found.experiment_id],
            filter_string="attributes.status = 'FINISHED'",
            order_by=["attributes.start_time ASC"],
            output_format="list",
        )
    except troubles() as error:
        raise LeaderboardError(f"{uri}: MLflow cannot read it: {error}") from error
    return [_logged(run) for run in runs]


def _logged(run: Any) -> Logged:
    tags = run.data.tags
    return Logged(
        experiment=tags.get("DVC_EXP_NAME", WORKSPACE),
        stage=tags.get(STAGE_TAG, ""),
        lineage=tags.get(LINEAGE_TAG, ""),
        restored=tags.get(RESTORED_TAG) == "true",
        resumed=tags.get(RESUMED_TAG) == "true",
        seed=run.data.params.get("seed"),
        commit=tags.get(COMMIT_TAG, "")[:7],
        source=run.data.params.get("fetch.source", ""),
        backbone=run.data.params.get("train.backbone", ""),
        started=run.info.start_time,
        minutes=(run.info.end_time - run.info.start_time) / 60_000,
        metrics=run.data.metrics,
    )


def records_of(runs: Sequence[Logged]) -> list[SeedRecord]:
    """Runs, earliest first, as seeds: the last evaluate run of an experiment counts, then the last of a seed."""
    last = {run.experiment: run for run in runs if run.stage == "evaluate"}
    of_seed = {row_and_seed(run): run for run in sorted(last.values(), key=lambda run: run.started)}
    names = [prefix + name for prefix in SIDES.values() for name, _ in METRICS.values()]
    return [
        SeedRecord(
            experiment=row,
            seed=seed or "",
            commit=run.commit,
            source=run.source,
            backbone=run.backbone,
            minutes=training_minutes(run, runs),
            metrics={name: run.metrics[name] for name in names if name in run.metrics},
        )
        for (row, seed), run in of_seed.items()
    ]


def rows_of(records: Sequence[SeedRecord], side: str = "test") -> list[Row]:
    """The seeds of each experiment together."""
    rows: dict[str, list[dict[str, float]]] = defaultdict(list)
    for record in records:
        rows[record.experiment].append(_figures(record, SIDES[side]))
    return [Row(name, _over_seeds(figures), len(figures)) for name, figures in rows.items()]


def row_and_seed(run: Logged) -> tuple[str, str | None]:
    """`<preset>-s<seed>` as its two parts, unless the run had another seed: then the number is part of the name."""
    parts = re.fullmatch(r"(.+)-s(\d+)", run.experiment)
    if parts and run.seed in (None, parts[2]):
        return parts[1], parts[2]
    return run.experiment, run.seed


def _figures(record: SeedRecord, prefix: str) -> dict[str, float]:
    """The columns of one seed, without those it has no figure for."""
    names = {column: prefix + name for column, (name, _) in METRICS.items()}
    figures = {column: record.metrics[name] for column, name in names.items() if name in record.metrics}
    return figures if record.minutes is None else {**figures, "minutes": record.minutes}


def training_minutes(evaluated: Logged, runs: Sequence[Logged]) -> float | None:
    """How long the network of an evaluate run trained, as far as `runs`, earliest first, tell."""
    trainings = [run for run in runs if run.stage == "train"]
    before = [t for t in trainings if t.experiment == evaluated.experiment and t.started <= evaluated.started]
    if not before:
        return None
    last = before[-1]
    real = [t for t in trainings if t.lineage == last.lineage and not t.restored] if last.restored else [last]
    return real[0].minutes if real and not real[0].resumed else None


def _over_seeds(seeds: Sequence[Mapping[str, float]]) -> dict[str, Figure]:
    values = {column: [seed[column] for seed in seeds if column in seed] for column in TITLES}
    return {
        column: Figure(mean(of), stdev(of) if len(of) > 1 else None, len(of)) for column, of in values.items() if of
    }


def ranked(rows: Sequence[Row], column: str) -> list[Row]:
    """Highest mean first, rows without one last; equal ones by name."""
    return sorted(rows, key=lambda row: (-row.figures.get(column, Figure(-1.0, None, 0)).mean, row.experiment))


def markdown(rows: Sequence[Row]) -> str:
    """The table."""
    columns = [column for column in TITLES if any(column in row.figures for row in rows)]
    lines = [["experiment", *(TITLES[column] for column in columns), "seeds"], ["---"] * (len(columns) + 2)]
    for row in rows:
        cells = [shown(column, row.figures[column], row.seeds) if column in row.figures else DASH for column in columns]
        lines.append([row.experiment, *cells, str(row.seeds)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shown(column: str, figure: Figure, seeds: int) -> str:
    """`.949 ± .003`, minutes as `8.6 ± 0.2`; of one seed the mean; of fewer than the row has, how many: `.949 (1)`."""
    values = [value for value in (figure.mean, figure.spread) if value is not None]
    said = [f"{value:.1f}" if column == "minutes" else f"{value:.3f}".removeprefix("0") for value in values]
    return " ± ".join(said) + (f" ({figure.seeds})" if figure.seeds < seeds else "")


def json_line(row: Row) -> str:
    """A row as JSON; a column is null, or has `mean`, `spread` and `seeds`."""
    columns = {column: row.figures[column]._asdict() if column in row.figures else None for column in TITLES}
    return json.dumps({"experiment": row.experiment, **columns, "seeds": row.seeds}, ensure_ascii=False)


def put_into(file: Path, table: str, name: str) -> None:
    """Replace what stands between the marks of `name` in `file`.

    Raises LeaderboardError unless each mark is there once, in turn.
    """
    opening, closing = marks(name)
    text = file.read_text(encoding="utf-8")
    parts = re.split(f"({re.escape(opening)}|{re.escape(closing)})", text)
    if parts[1::2] != [opening, closing]:
        raise LeaderboardError(f"{file}: needs the markers {opening} and {closing}, each once and in this order")
    with written_aside(file) as aside:
        aside.write_text(f"{parts[0]}{opening}\n\n{table}\n\n{closing}{parts[4]}", encoding="utf-8")
