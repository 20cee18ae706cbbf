"""`cairn summary`: what the last `dvc repro` came to, in a short table."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from cairn.stage import report_of
from cairn.tracking import tracking_uri

FIGURES = {
    "GAP": "gap",
    "accuracy": "accuracy",
    "recall@5": "recall_at_5",
    "mAP@100": "map_at_100",
    "coverage at 95 % precision": "coverage_at_precision_95",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None: it reads the reports below the current folder."""


def run(_: argparse.Namespace) -> int:
    """Print the table; return the exit status."""
    print("\n".join(summary(report_of("fetch"), report_of("clean"), report_of("evaluate"))))
    if subprocess.run([sys.executable, "-m", "dvc", "status", "--quiet"], check=False).returncode != 0:
        print(
            "Some of this is of an earlier run: `dvc status` says what has changed, `dvc repro` brings it up to date.\n"
        )
    return 0


def summary(fetch: Mapping[str, Any], clean: Mapping[str, Any], evaluate: Mapping[str, Any]) -> list[str]:
    """The table's lines, from three reports."""
    baseline = evaluate.get("baseline")
    lines = ["", f"{'':28}{'result':>10}" + (f"{'baseline':>10}" if baseline else "")]
    for title, key in FIGURES.items():
        lines.append(f"{title:28}{evaluate[key]:10.4f}" + (f"{baseline[key]:10.4f}" if baseline else ""))
    for most, few in evaluate["at_most"].items():
        plain = baseline["at_most"][most] if baseline else None
        title = f"accuracy, {most} photo{'' if most == '1' else 's'} each"
        lines.append(f"{title:28}{few['accuracy']:10.4f}" + (f"{plain['accuracy']:10.4f}" if plain else ""))
    lines += [
        "",
        f"asked                       {evaluate['queries']} landmark photos, {evaluate['distractors']} that show none",
        f"fetched                     {fetch['images']} photos, {clean['kept']} kept, {clean['dropped']} set aside",
        *_reasons(clean["reasons"].items()),
        "",
        "look      build/pictures/evaluate/ (contact sheets and curves), docs/results.md",
        f"compare   make mlflow         ({tracking_uri()})",
        "serve     make serve          then: cairn query PHOTO... --json",
        "",
    ]
    return lines


def _reasons(reasons: Iterable[tuple[str, int]]) -> list[str]:
    return [f"  {reason:26}{count:6}" for reason, count in reasons if count]
