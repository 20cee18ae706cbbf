"""What a threshold costs and buys: precision of the answers against the share of landmark queries they cover."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cairn.metrics.coverage import Curve
from cairn.pictures.style import INK, MAIN, QUIET, WRONG, chart, write_note


def precision_coverage(curve: Curve, path: Path, title: str, threshold: float, target: float) -> None:
    """Draw a curve of `cairn.metrics.coverage.precision_coverage` to a PNG at `path`.

    threshold: the one in use, marked where the curve has its last point of at least that score; inf says that nothing
    is answered. target: the wanted precision in [0, 1], drawn as a line. Without points the PNG says so.
    """
    if not len(curve.thresholds):
        write_note(path, title, "No query was answered: there is no curve to draw.")
        return
    with chart(path) as figure:
        axes = figure.subplots()
        axes.set_title(title)
        axes.plot(100 * curve.coverage, 100 * curve.precision, color=MAIN, marker="o", markersize=3, markevery=[0, -1])
        axes.axhline(100 * target, color=QUIET, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        note = f"wanted precision {100 * target:g} %"
        axes.annotate(note, (99, 100 * target), xytext=(0, -4), textcoords="offset points", **_SMALL)
        axes.set(xlabel="coverage: landmark queries answered rightly, %", ylabel="precision: answers that are right, %")
        axes.set(xlim=(0, 100), ylim=(0, 104))
        _mark(axes, curve, threshold)


_SMALL = {"ha": "right", "va": "top", "color": QUIET, "fontsize": 9}


def _mark(axes: Any, curve: Curve, threshold: float) -> None:
    """A dot at the threshold's point, and beside it what it gives."""
    point = int(np.searchsorted(-curve.thresholds, -threshold, side="right")) - 1
    if point < 0:
        note = f"threshold {threshold:.3g}: no query is answered"
        axes.text(0.02, 0.04, note, transform=axes.transAxes, color=INK)
        return
    x, y = 100 * curve.coverage[point], 100 * curve.precision[point]
    axes.plot([x], [y], "o", color=WRONG, markersize=9, zorder=3)
    low = y < 35
    axes.annotate(
        f"threshold {threshold:.3g}\nprecision {y:.1f} %\ncoverage {x:.1f} %",
        (x, y),
        xytext=(-12 if x > 50 else 12, 14 if low else -14),
        textcoords="offset points",
        ha="right" if x > 50 else "left",
        va="bottom" if low else "top",
        linespacing=1.4,
        bbox={"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
    )
