"""What something costs, part by part: one bar for each case, its parts laid end to end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cairn.pictures.style import INK, PAPER, SERIES, chart, write_note

LABELLED = 0.06  # of the longest bar: a narrower part has no room for its number


def costs(cases: Mapping[str, Mapping[str, float]], path: Path, title: str, unit: str) -> None:
    """Draw one horizontal bar per case, the first on top, to a PNG at `path`; `unit` names the axis.

    cases: for each the cost of its parts, at least 0, all with the same parts in the same order. Behind a bar stands
    its sum. Without cases or parts the PNG says so. Raises ValueError if parts differ, are more than the colours, or
    one is below 0.
    """
    parts = _checked(cases, path)
    if not parts:
        write_note(path, title, "There is nothing to draw.")
        return
    sums = [sum(case.values()) for case in cases.values()]
    with chart(path, size=(9.0, 2.0 + 0.6 * len(cases))) as figure:
        axes = figure.subplots()
        axes.set_title(title)
        starts = [0.0] * len(cases)
        for part, colour in zip(parts, SERIES, strict=False):
            widths = [case[part] for case in cases.values()]
            drawn = axes.barh(list(cases), widths, left=starts, color=colour, height=0.62, label=part)
            shown = [f"{width:.3g}" if width >= LABELLED * max(sums) else "" for width in widths]
            axes.bar_label(drawn, shown, label_type="center", fontsize=8, color=PAPER)
            starts = [start + width for start, width in zip(starts, widths, strict=True)]
        axes.bar_label(drawn, [f"{value:.3g}" for value in sums], padding=4, fontsize=9, color=INK)
        axes.invert_yaxis()
        axes.set_xlabel(unit)
        axes.set_xlim(0, 1.1 * max(*sums, 1e-9))
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        figure.legend(loc="outside lower center", ncols=len(parts))


def _checked(cases: Mapping[str, Mapping[str, float]], path: Path) -> list[str]:
    parts = list(next(iter(cases.values()), {}))
    for name, case in cases.items():
        if list(case) != parts or len(parts) > len(SERIES):
            raise ValueError(f"{path}: {name} has the parts {list(case)}; wanted {parts}, {len(SERIES)} at most")
        if not all(value >= 0 for value in case.values()):
            raise ValueError(f"{path}: {name} has a part that costs less than nothing: {dict(case)}")
    return parts
