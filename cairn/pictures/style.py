"""One look for every picture: colours that colour-blind people tell apart, fonts, sizes, and how a PNG is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from PIL import Image, ImageFont

from cairn.files import written_aside

# Okabe and Ito's palette, chosen for colour-blind readers
RIGHT = "#009E73"
WRONG = "#D55E00"
MAIN = "#0072B2"
SECOND = "#CC79A7"
SERIES = (MAIN, WRONG, RIGHT, SECOND, "#E69F00", "#56B4E9")

INK = "#222222"
QUIET = "#6B6B6B"  # dark enough to read on white
RULE = "#D9D9D9"
GROUND = "#F2F2F2"
PAPER = "#FFFFFF"

DPI = 120
CHART_SIZE = (8.0, 4.8)  # inches

_CHART_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 2,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": PAPER,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.1,
    "figure.constrained_layout.w_pad": 0.1,
}


@contextmanager
def chart(path: Path, size: tuple[float, float] = CHART_SIZE) -> Iterator[Any]:
    """Give an empty matplotlib Figure of `size` inches in the common look; write it to `path` when the block ends well.

    No pyplot, so no window and no figure kept alive; whatever a user's matplotlibrc says plays no part.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_CHART_STYLE)
        figure = Figure(figsize=size, dpi=DPI)
        yield figure
        with written_aside(path) as aside:
            figure.savefig(aside, format="png", metadata={"Software": None})


def write_note(path: Path, title: str, note: str) -> None:
    """A chart's place taken by a sentence, where there is nothing to draw."""
    with chart(path, size=(8.0, 2.4)) as figure:
        axes = figure.subplots()
        axes.set_title(title)
        axes.set_axis_off()
        axes.text(0.5, 0.5, note, ha="center", va="center", color=QUIET, fontsize=12, wrap=True)


def write_sheet(path: Path, sheet: Image.Image) -> None:
    """Write an image as a PNG without any metadata."""
    with written_aside(path) as aside:
        sheet.save(aside, format="PNG", optimize=True)


@cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans at `size` pixels: the copy that matplotlib brings, so that every machine draws the same letters."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", name)
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
