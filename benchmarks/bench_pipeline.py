"""The whole pipeline in a temporary clone: time and memory of each stage, DVC's own start and hashing among them.

    python benchmarks/bench_pipeline.py                              the embedded data, and a run with nothing to do
    python benchmarks/bench_pipeline.py --images 1000 10000 100000   made photos of 96 pixels, and how the stages grow

With --images the network is a very small one, trained for two epochs: what grows is the pipeline's own part. Memory is
the most that all processes of a stage hold at once, mapped files left out. What is measured stays in --into
(growth.csv, growth.png), and a run that was cut off goes on with the next number of images.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

from measured import Spent, spent

from cairn.composing import compose
from cairn.pictures.style import SERIES, chart
from cairn.yamls import read_yaml

ROOT = Path(__file__).parents[1]
PHOTOS_A_LANDMARK = 50
GROWTH = "growth"
COLUMNS = ("images", "stage", "seconds", "processor_seconds", "peak_mb")
# Of 1,000 photos, as many flaws as the embedded data has.
SHARES = {"distractors": 0.1, "exact_duplicates": 0.01, "near_duplicates": 0.015, "broken": 0.005, "mislabelled": 0.008}


def cloned(folder: Path, overrides: list[str]) -> Path:
    """A clone of what is committed, with params of its own where there are overrides."""
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    if overrides:
        compose(folder, folder / "params.yaml", overrides)
    return folder


def dvc(folder: Path, *command: str) -> Spent:
    """What a command of DVC costs."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(folder)}
    return spent([sys.executable, "-m", "dvc", *command], folder, environment)


def overrides_for(images: int) -> list[str]:
    """Params of a made data set of about so many photos, and of a very small network."""
    flaws = {name: round(share * images) for name, share in SHARES.items()}
    counts = {"images": images, "landmarks": max(4, images // PHOTOS_A_LANDMARK), "size": 96, **flaws}
    return ["budget=small", *(f"fetch.synthetic.{name}={value}" for name, value in counts.items())]


def stage_by_stage(overrides: list[str]) -> dict[str, Spent]:
    """Each stage's cost in a clone of its own, and that of a run with nothing to do."""
    with tempfile.TemporaryDirectory(prefix="cairn-pipeline-") as name:
        folder = cloned(Path(name) / "clone", overrides)
        costs: dict[str, Spent] = {}
        for stage in read_yaml(folder / "dvc.yaml")["stages"]:
            costs[stage] = dvc(folder, "repro", "--single-item", "--force", stage)
            print(f"{stage:12}{_line(costs[stage])}", flush=True)
        costs["no-op"] = dvc(folder, "repro")
    print(f"{'no-op':12}{_line(costs['no-op'])}")
    print(f"{'all':12}{sum(cost.seconds for cost in costs.values()) - costs['no-op'].seconds:8.1f} s", flush=True)
    return costs


def _line(cost: Spent) -> str:
    return f"{cost.seconds:8.1f} s {cost.processor_seconds:8.1f} processor-seconds {cost.peak_mb:8.0f} MB"


def grow(sizes: list[int], into: Path) -> None:
    """Measure each size that `into` does not hold yet, and draw all that it holds."""
    into.mkdir(parents=True, exist_ok=True)
    path = into / f"{GROWTH}.csv"
    rows = list(csv.DictReader(path.open())) if path.exists() else []
    for images in sizes:
        if str(images) in {row["images"] for row in rows}:
            continue
        print(f"{images} images", flush=True)
        for stage, cost in stage_by_stage(overrides_for(images)).items():
            figures = (images, stage, f"{cost.seconds:.2f}", f"{cost.processor_seconds:.2f}", f"{cost.peak_mb:.0f}")
            rows.append(dict(zip(COLUMNS, map(str, figures), strict=True)))
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
    draw(rows, into / f"{GROWTH}.png")
    print(f"{into}: {GROWTH}.csv, {GROWTH}.png")


def draw(rows: list[dict[str, str]], path: Path) -> None:
    """Two panels, time and memory of each stage over the number of images, both axes logarithmic."""
    panels = {"seconds": "seconds", "peak_mb": "MB held by all its processes"}
    stages = dict.fromkeys(row["stage"] for row in rows)
    with chart(path, size=(11.0, 4.4)) as figure:
        for axes, (column, label) in zip(figure.subplots(1, 2), panels.items(), strict=True):
            for stage, (dashes, colour) in zip(stages, product(("-", "--"), SERIES), strict=False):
                points = sorted((int(row["images"]), float(row[column])) for row in rows if row["stage"] == stage)
                axes.plot(*zip(*points, strict=True), dashes, color=colour, marker="o", markersize=4, label=stage)
            axes.set(xscale="log", yscale="log", xlabel="images", ylabel=label)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", metavar="N", help="made photos, in place of the embedded data")
    parser.add_argument("--into", type=Path, default=Path("build/benchmarks"), help="folder for growth.csv and .png")
    arguments = parser.parse_args()
    if arguments.images:
        grow(arguments.images, arguments.into)
    else:
        stage_by_stage([])


if __name__ == "__main__":
    main()
