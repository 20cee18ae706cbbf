"""Are predicted probabilities to be trusted? The share that is right against the probability, and how many of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cairn.metrics.calibration import Reliability
from cairn.pictures.style import MAIN, PAPER, QUIET, chart, write_note


def reliability_diagram(table: Reliability, path: Path, title: str) -> None:
    """Draw a table of `cairn.metrics.calibration.reliability` to a PNG at `path`: shares above, counts below.

    The expected calibration error of the bins drawn stands above them. Without answers the PNG says so.
    """
    if not len(table.answers):
        write_note(path, title, "No query was answered: there are no probabilities to draw.")
        return
    with chart(path, size=(8.0, 6.8)) as figure:
        shares, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        shares.set_title(title, pad=30)
        _draw_shares(shares, table)
        _draw_counts(counts, table)


def _draw_shares(axes: Any, table: Reliability) -> None:
    facts = f"{table.answers.sum():,} answers, calibration error {100 * table.error:.1f} %"
    line = axes.plot(100 * table.probability, 100 * table.right, color=MAIN, marker="o", markersize=6, label=facts)
    line[0].set(clip_on=False, zorder=3)
    axes.plot([0, 100], [0, 100], color=QUIET, linewidth=1, linestyle=(0, (4, 3)), label="as right as predicted")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    axes.set(xlim=(0, 100), ylim=(0, 100), ylabel="answers that are right, %")


def _draw_counts(axes: Any, table: Reliability) -> None:
    widths = 100 * (table.high - table.low)
    axes.bar(50 * (table.low + table.high), table.answers, widths, color=MAIN, edgecolor=PAPER)
    axes.set(xlabel="predicted probability, %", ylabel="answers")
    axes.grid(visible=False, axis="x")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value == int(value) else "")
