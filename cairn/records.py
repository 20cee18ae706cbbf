"""What experiments came to, a line a seed, in a CSV file that git can keep: figures outlive the MLflow database they
came from, and those of several machines make one table (`cairn leaderboard --records`).

Columns: experiment (the row of the leaderboard), seed, commit (of the code), source (of the photos), backbone (the
first), minutes (of training), then the metrics by MLflow's names. What is not known is empty.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cairn.tables import write_csv

LABELS = ("experiment", "seed", "commit", "source", "backbone")
MINUTES = "minutes"


class RecordsError(ValueError):
    """The file is not one that `write_records` wrote; the message names it, the line and the value."""


@dataclass(frozen=True)
class SeedRecord:
    """One seed of an experiment, trained and evaluated."""

    experiment: str  # the row, without the seed
    seed: str
    commit: str
    source: str  # fetch.source
    backbone: str  # train.backbone
    minutes: float | None  # of training
    metrics: Mapping[str, float]  # MLflow's name -> value; those the seed has


def merged(older: Iterable[SeedRecord], newer: Iterable[SeedRecord]) -> list[SeedRecord]:
    """Both, the newer one where both have a seed of an experiment; sorted by these two."""
    kept = {(record.experiment, record.seed): record for record in [*older, *newer]}
    return [kept[key] for key in sorted(kept)]


def write_records(file: Path, records: Iterable[SeedRecord]) -> None:
    """Write the file: numbers with 6 digits, a column for each metric that any record has."""
    rows = [{**{name: getattr(r, name) for name in (*LABELS, MINUTES)}, **r.metrics} for r in records]
    names = sorted({name for row in rows for name in row} - {*LABELS, MINUTES})
    columns = [*LABELS, MINUTES, *names]
    write_csv(file, columns, [{**dict.fromkeys(columns), **row} for row in rows])


def read_records(file: Path) -> list[SeedRecord]:
    """What `write_records` wrote; nothing if there is no such file.

    Raises RecordsError if a column or a cell is missing, or a figure is no finite number.
    """
    if not file.exists():
        return []
    with file.open(newline="", encoding="utf-8") as opened:
        lines = csv.reader(opened)
        columns = next(lines, [])
        if tuple(columns[: len(LABELS) + 1]) != (*LABELS, MINUTES):
            raise RecordsError(f"{file}: begins with {','.join(columns)!r}, not with {','.join((*LABELS, MINUTES))}")
        return [_record(columns, cells, f"{file}, line {lines.line_num}") for cells in lines]


def _record(columns: list[str], cells: list[str], where: str) -> SeedRecord:
    if len(cells) != len(columns):
        raise RecordsError(f"{where}: {len(cells)} cells, where the first line has {len(columns)}")
    labels = dict(zip(LABELS, cells, strict=False))
    given = [(name, cell) for name, cell in zip(columns, cells, strict=True) if name not in labels and cell]
    figures = {name: _number(cell, f"{where}, {name}") for name, cell in given}
    return SeedRecord(**labels, minutes=figures.pop(MINUTES, None), metrics=figures)


def _number(cell: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise RecordsError(f"{where}: {cell!r} is no number")
    return value
