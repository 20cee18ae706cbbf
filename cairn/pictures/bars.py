"""Named numbers as bars: seconds per stage, accuracy per class size, and the like."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cairn.pictures.style import MAIN, QUIET, chart, write_note


def bars(values: Mapping[str, float], path: Path, title: str, unit: str) -> None:
    """Draw one horizontal bar per name, the first on top, to a PNG at `path`; `unit` names the axis.

    Without values the PNG says so.
    """
    if not values:
        write_note(path, title, "There is nothing to draw.")
        return
    with chart(path, size=(8.0, 1.4 + 0.34 * len(values))) as figure:
        axes = figure.subplots()
        axes.set_title(title)
        drawn = axes.barh(list(values), list(values.values()), color=MAIN, height=0.7)
        axes.bar_label(drawn, [f"{value:,.4g}" for value in values.values()], padding=4, fontsize=9, color=QUIET)
        axes.invert_yaxis()
        axes.set_xlabel(unit)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.margins(x=0.12)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
