"""How long `dvc status` takes where nothing has changed, by how many shards the photos lie in.

    python benchmarks/bench_dvc_status.py            the shards of 10,000 photos
    python benchmarks/bench_dvc_status.py --full     those of a million, and of Google Landmarks v2

Makes a DVC repository of the project's stages, with shards of a few random bytes: as many as photos of RAW_KB as they
come, and of CLEAN_KB when cleaned, fill with the params' `shard_mb`; commits all to DVC's cache once, then asks for the
status ROUNDS times. DVC looks at the time and size of each file, not at its content, so small shards cost it what large
ones do. Beside it the plain way: each photo a file, up to PLAIN photos.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cairn.params import load_params
from cairn.yamls import read_yaml

ROOT = Path(__file__).parents[1]
RAW_KB, CLEAN_KB = 120, 35  # Google Landmarks v2: 500 GB of train photos; a short side of 256 pixels at quality 95
MILLION, GLDV2 = 1_000_000, 4_132_914
PLAIN = 10_000
ROUNDS = 5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[10_000])
    parser.add_argument("--full", action="store_true", help="a million photos, and 4,132,914")
    args = parser.parse_args()
    params = load_params(ROOT / "params.yaml")
    print(f"{'photos':>10}{'raw':>9}{'clean':>9}{'embeddings':>12}{'seconds':>12}{'processor':>12}")
    for images in [PLAIN, MILLION, GLDV2] if args.full else args.images:
        raw = shards(images, RAW_KB, params.fetch.shard_mb)
        clean = shards(images, CLEAN_KB, params.clean.shard_mb)
        show(images, raw, clean)
        if images <= PLAIN:
            show(images, images, images)


def shards(images: int, kilobytes: int, megabytes: float) -> int:
    """How many shards so many photos fill."""
    return -(-images * kilobytes // int(megabytes * 1000))


def show(images: int, raw: int, clean: int) -> None:
    """Print a row: `raw` and `clean` files, twice as many embeddings as those."""
    with tempfile.TemporaryDirectory(prefix="cairn-bench-") as name:
        make(Path(name), {"raw": raw, "clean": clean, "embeddings/network": clean, "embeddings/baseline": clean})
        seconds, used = [], []
        for _ in range(ROUNDS):
            start, before = time.perf_counter(), os.times()
            said = dvc(Path(name), "status")
            after = os.times()
            seconds.append(time.perf_counter() - start)
            used.append(after.children_user + after.children_system - before.children_user - before.children_system)
        assert "up to date" in said, said
    print(
        f"{images:>10,}{raw:>9,}{clean:>9,}{2 * clean:>12,}{statistics.median(seconds):>12.1f}"
        f"{statistics.median(used):>12.1f}",
        flush=True,
    )


def make(folder: Path, outs: dict[str, int]) -> None:
    """A repository in which every stage of ours has run, with `outs` in place of its photos."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder)
    for name in ("cairn", "stages"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    dvc(folder, "init", "-q")
    dvc(folder, "config", "core.analytics", "false")
    dvc(folder, "config", "cache.type", "hardlink,copy")
    for name, count in outs.items():
        place = folder / "build" / name
        place.mkdir(parents=True)
        for number in range(count):
            (place / f"shard_{number:07d}").write_bytes(os.urandom(64))
    (folder / "build" / "clean" / "images.parquet").write_bytes(os.urandom(64))
    for stage in read_yaml(folder / "dvc.yaml")["stages"].values():
        for out in (out for kind in ("outs", "metrics", "plots") for out in stage.get(kind, [])):
            path = folder / (next(iter(out)) if isinstance(out, dict) else out)
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                path.write_text("{}" if path.suffix else "some")
    dvc(folder, "commit", "-f", "-q")


def dvc(folder: Path, *command: str) -> str:
    """What a DVC command says."""
    arguments = [sys.executable, "-m", "dvc", *command]
    return subprocess.run(arguments, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
