"""How training went: losses above, validation scores below, over the epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.ticker import MaxNLocator

from cairn.pictures.style import INK, SERIES, chart, write_note

TITLE, LOSS = "Training", "train_loss"
SCORES = "validation_gap", "validation_accuracy"  # better when higher; the first one's best epoch is marked
PANELS = (LOSS,), SCORES
Epochs = Sequence[Mapping[str, float | None]]


def loss_curves(epochs: Epochs, path: Path) -> None:
    """Draw LOSS and SCORES of a table of epochs (a row each, in order, numbered from 1) to a PNG at `path`.

    None or NaN leaves a gap. Without epochs the PNG says so. Raises ValueError if a column is in no row.
    """
    if not epochs:
        write_note(path, TITLE, "No epochs were trained: the network is used as it came.")
        return
    known = {name for row in epochs for name in row}
    missing = [name for name in (LOSS, *SCORES) if name not in known]
    if missing:
        raise ValueError(f"{path}: no columns {missing} to draw; the epochs have {sorted(known)}")
    with chart(path, size=(8.0, 6.0)) as figure:
        drawn = figure.subplots(len(PANELS), 1, sharex=True)
        drawn[0].set_title(TITLE)
        first_colour = 0
        for axes, names in zip(drawn, PANELS, strict=True):
            _draw(axes, epochs, names, first_colour)
            first_colour += len(names)
        _mark_best(drawn[-1], _spelt(SCORES[0]), _column(epochs, SCORES[0]))
        drawn[-1].set_xlabel("epoch")
        drawn[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        drawn[-1].set_xlim(0.7, len(epochs) + 0.3)


def _draw(axes: Any, epochs: Epochs, names: Sequence[str], first_colour: int) -> None:
    for place, name in enumerate(names):
        colour = SERIES[(first_colour + place) % len(SERIES)]
        marker = "o" if len(epochs) <= 40 else ""
        numbers = range(1, len(epochs) + 1)
        axes.plot(numbers, _column(epochs, name), color=colour, marker=marker, markersize=4, label=_spelt(name))
    if len(names) == 1:
        axes.set_ylabel(_spelt(names[0]))
    else:
        axes.legend(loc="best")


def _mark_best(axes: Any, name: str, values: list[float]) -> None:
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return
    best = max(known)
    epoch = values.index(best) + 1
    axes.axvline(epoch, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    late = epoch > 0.6 * len(values)
    axes.annotate(
        f"best {name} {best:.4g}, epoch {epoch}",
        (epoch, 0.04),
        xycoords=("data", "axes fraction"),
        xytext=(-6 if late else 6, 0),
        textcoords="offset points",
        ha="right" if late else "left",
        fontsize=9,
    )


def _column(epochs: Epochs, name: str) -> list[float]:
    values = [row.get(name) for row in epochs]
    return [math.nan if value is None else float(value) for value in values]


def _spelt(name: str) -> str:
    return name.replace("_", " ")
