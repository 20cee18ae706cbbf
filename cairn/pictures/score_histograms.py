"""How well scores tell right answers from wrong ones and from photos that show no landmark."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cairn.pictures.style import INK, MAIN, RIGHT, WRONG, chart, write_note

TITLE, BINS = "Scores of the answers", 40


def score_histograms(
    right: ArrayLike, wrong: ArrayLike, distractor: ArrayLike, path: Path, *, threshold: float
) -> None:
    """Draw three groups of scores, floats [n] each, to a PNG at `path`: the share of each group per bin.

    Shares, because distractors may outnumber the rest a hundredfold; the legend tells how many each group holds.
    Scores of -inf (nothing found) count among those but have no bin. Without any finite score the PNG says so.
    Raises ValueError if a score is NaN or the arrays are not flat.
    """
    groups = {
        "right landmark": (_flat(right, path), RIGHT, "-"),
        "wrong landmark": (_flat(wrong, path), WRONG, "--"),
        "no landmark in the photo": (_flat(distractor, path), MAIN, ":"),
    }
    finite = np.concatenate([values[np.isfinite(values)] for values, _, _ in groups.values()])
    if not finite.size:
        write_note(path, TITLE, "No query was answered: there are no scores to draw.")
        return
    edges = _edges(finite)
    with chart(path) as figure:
        axes = figure.subplots()
        axes.set_title(TITLE)
        for name, (values, colour, line) in groups.items():
            heights = 100 * np.histogram(values[np.isfinite(values)], edges)[0] / max(1, len(values))
            axes.stairs(heights, edges, color=colour, alpha=0.22, fill=True)
            label = f"{name} ({len(values):,})"
            axes.stairs(heights, edges, color=colour, linewidth=1.8, linestyle=line, label=label)
        if math.isfinite(threshold):
            axes.axvline(threshold, color=INK, linewidth=1.2)
            _name_threshold(axes, threshold, edges)
        axes.set(xlabel="score", ylabel="share of the group, %")
        axes.set_ylim(0, axes.get_ylim()[1] * 1.12)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3)


def _name_threshold(axes: Any, threshold: float, edges: NDArray[np.float64]) -> None:
    late = threshold > (edges[0] + edges[-1]) / 2
    axes.annotate(
        f"threshold {threshold:.3g}",
        (threshold, 0.98),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if late else 5, 0),
        textcoords="offset points",
        ha="right" if late else "left",
        va="top",
        fontsize=9,
    )


def _edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = float(values.min()), float(values.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, BINS + 1)


def _flat(values: ArrayLike, path: Path) -> NDArray[np.float64]:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or np.isnan(scores).any():
        raise ValueError(f"{path}: scores must be a flat array without NaN, not one of shape {scores.shape}")
    return scores
