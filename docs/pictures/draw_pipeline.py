"""Draws docs/pictures/pipeline.png: `python docs/pictures/draw_pipeline.py`."""

from __future__ import annotations

import argparse
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

STAGES = [
    ("fetch", "photos into\ntar shards and\na manifest"),
    ("validate", "great-expectations\nover manifest\nand labels"),
    ("clean", "each photo kept,\nor set aside\nwith one reason"),
    ("split", "sides that near\nduplicates never\ncross"),
    ("train", "backbone, pooling,\nneck, ArcFace"),
    ("embed", "a float16\nvector a photo"),
    ("index", "FAISS, its type\nby size"),
    ("evaluate", "GAP, recall,\nthreshold,\npictures"),
    ("export", "ONNX, TensorRT,\nTriton\nrepository"),
]
SERVED = [("preprocess", "decode, resize"), ("embed", "ONNX or plan"), ("retrieve", "FAISS, answer")]
INK, FILL, SERVING = "#1b2a38", "#e8eef3", "#f6e7d4"


def box(axes: object, left: float, low: float, width: float, high: float, title: str, text: str, fill: str) -> None:
    """A rounded box with a bold title over a few words."""
    shape = FancyBboxPatch((left, low), width, high, boxstyle="round,pad=0.02,rounding_size=0.08", fc=fill, ec=INK)
    axes.add_patch(shape)  # type: ignore[attr-defined]
    middle = left + width / 2
    axes.text(middle, low + high - 0.2, title, ha="center", va="center", weight="bold", color=INK)  # type: ignore[attr-defined]
    axes.text(middle, low + (high - 0.35) / 2, text, ha="center", va="center", fontsize=7.5, color=INK)  # type: ignore[attr-defined]


def arrow(axes: object, start: tuple[float, float], end: tuple[float, float]) -> None:
    """From one box to the next."""
    axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": INK})  # type: ignore[attr-defined]


def main() -> None:
    """Draw the picture beside this file."""
    figure = Figure(figsize=(13, 3.9), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(-0.1, 13.6), ylim=(-0.1, 3.7))
    axes.axis("off")
    for place, (title, text) in enumerate(STAGES):
        box(axes, place * 1.5, 2.2, 1.3, 1.2, title, text, FILL)
        if place:
            arrow(axes, (place * 1.5 - 0.18, 2.8), (place * 1.5 - 0.02, 2.8))
    axes.text(0, 3.52, "dvc repro: nine stages, each a run in MLflow", color=INK)
    for place, (title, text) in enumerate(SERVED):
        box(axes, 7.5 + place * 2, 0.2, 1.7, 0.9, title, text, SERVING)
        if place:
            arrow(axes, (7.3 + place * 2 - 0.07, 0.65), (7.5 + place * 2 - 0.03, 0.65))
    axes.text(7.5, 1.22, "Triton: the entry model `landmark`", color=INK)
    arrow(axes, (12.65, 2.15), (12.65, 1.15))
    box(axes, 3.6, 0.2, 2.4, 0.9, "cairn query PHOTO...", "landmark or none, score,\nnearest photos", SERVING)
    arrow(axes, (6.05, 0.8), (7.42, 0.8))
    arrow(axes, (7.42, 0.5), (6.05, 0.5))
    axes.text(6.73, 0.9, "gRPC", ha="center", fontsize=8, color=INK)
    figure.savefig(Path(__file__).with_name("pipeline.png"), dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    main()
