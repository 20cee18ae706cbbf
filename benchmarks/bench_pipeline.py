"""The whole pipeline on the embedded data in a temporary clone: time and memory of each stage, and of a no-op run.

python benchmarks/bench_pipeline.py
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cairn.yamls import read_yaml

ROOT = Path(__file__).parents[1]


def timed(folder: Path, *command: str) -> tuple[float, float]:
    """Seconds and peak memory in GB of the largest process so far."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(folder)}
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "dvc", *command], cwd=folder, env=environment, check=True, capture_output=True
    )
    return time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6


def main() -> None:
    """Measure and print."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "clone"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
        stages = list(read_yaml(folder / "dvc.yaml")["stages"])
        total = 0.0
        for stage in stages:
            seconds, memory = timed(folder, "repro", "--single-item", "--force", stage)
            total += seconds
            print(f"{stage:12}{seconds:8.1f} s   largest process so far {memory:5.2f} GB", flush=True)
        print(f"{'all':12}{total:8.1f} s, each with DVC's own start")
        print(f"{'no-op':12}{timed(folder, 'repro')[0]:8.1f} s")


if __name__ == "__main__":
    main()
