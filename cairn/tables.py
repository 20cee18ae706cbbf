"""Small tables for people and for `dvc plots`: CSV with the same bytes every time."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cairn.files import written_aside


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the named columns of each row, floats with 6 digits."""
    with written_aside(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([f"{row[c]:.6g}" if isinstance(row[c], float) else row[c] for c in columns] for row in rows)
