"""How many photos the landmarks have: the long tail, by rank and in bins of doubling size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cairn.pictures.style import MAIN, QUIET, chart, write_note


def class_sizes(sizes: ArrayLike, path: Path, title: str) -> None:
    """Draw sizes int [landmarks], photos per landmark, each at least 1, to a PNG at `path`.

    Without landmarks the PNG says so. Raises ValueError if a size is below 1 or the array is not one of integers.
    """
    counts = np.asarray(sizes)
    if not counts.size:
        write_note(path, title, "No landmarks: there are no class sizes to draw.")
        return
    if counts.ndim != 1 or not np.issubdtype(counts.dtype, np.integer) or counts.min() < 1:
        raise ValueError(f"{path}: sizes must be integers of at least 1, one per landmark, not {counts.dtype} {counts}")
    with chart(path, size=(10.0, 4.4)) as figure:
        figure.suptitle(title, x=0.012, ha="left", fontsize=12, fontweight="bold")
        figure.text(0.988, 0.98, _facts(counts), ha="right", va="top", color=QUIET)
        by_rank, in_bins = figure.subplots(1, 2)
        _draw_ranks(by_rank, np.sort(counts)[::-1])
        _draw_bins(in_bins, counts)


def _facts(counts: NDArray[np.int64]) -> str:
    middle = f"median {np.median(counts):g}, most {counts.max():,}"
    return f"{len(counts):,} landmarks, {counts.sum():,} photos; photos per landmark: {middle}"


def _draw_ranks(axes: Any, falling: NDArray[np.int64]) -> None:
    ranks = np.arange(1, len(falling) + 1)
    axes.loglog(ranks, falling, color=MAIN, marker="o" if len(falling) < 50 else "", markersize=4)
    axes.set(xlabel="landmark, by rank", ylabel="photos", ylim=(0.8, falling[0] * 1.5))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else "")
        axis.set_minor_formatter(lambda value, _: "")


def _draw_bins(axes: Any, counts: NDArray[np.int64]) -> None:
    _, doublings = np.frexp(counts)
    heights = np.bincount(doublings)[1:]
    lows = 2 ** np.arange(len(heights))
    names = [str(low) if low == 1 else f"{low}–{2 * low - 1}" for low in lows.tolist()]
    bars = axes.bar(np.arange(len(heights)), heights, color=MAIN, width=0.85)
    axes.bar_label(bars, [f"{height:,}" for height in heights.tolist()], padding=2, fontsize=8, color=QUIET)
    axes.set_xticks(np.arange(len(heights)), names, fontsize=9)
    if len(names) > 6:
        axes.tick_params(axis="x", labelrotation=45)
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    axes.set(xlabel="photos per landmark", ylabel="landmarks")
    axes.margins(y=0.1)
    axes.grid(visible=False, axis="x")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value == int(value) else "")
