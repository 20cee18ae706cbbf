"""`cairn backfill`: log to MLflow the stages that DVC's run cache restored, so that every result has its runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cairn.files import read_json
from cairn.lineage import lineages_locked, params_locked
from cairn.stage import REPORTS, numbers
from cairn.tracking import TrackingError, known_lineages, stage_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None: it works on the project in the current folder."""


def run(_: argparse.Namespace) -> int:
    """Log every stage in dvc.lock that MLflow has no run for; return the exit status."""
    try:
        logged = backfill(Path.cwd())
    except TrackingError as error:
        print(f"cairn backfill: {error}", file=sys.stderr)
        return 2
    if logged:
        print(f"MLflow: logged from reports what the run cache restored: {', '.join(logged)}")
    return 0


def backfill(root: Path) -> list[str]:
    """Log from reports/<stage>.json each stage whose lineage MLflow does not know; the names of those logged."""
    lineages = lineages_locked(root)
    if not lineages:
        return []
    known = known_lineages()
    logged = []
    for stage, lineage in lineages.items():
        report = root / REPORTS / f"{stage}.json"
        if lineage in known or not report.exists():
            continue
        with stage_run(stage, params_locked(root, stage), lineage, restored=True) as log:
            log(numbers(read_json(report)))
        logged.append(stage)
    return logged
