"""Tables at the size of Google Landmarks v2: validate, clean and split without a photo decoded, resized or copied.

    python benchmarks/bench_metadata.py            a hundredth of the size
    python benchmarks/bench_metadata.py --full     41 k, 413 k and 4.13 M photos, the last of 203,094 landmarks

Makes a manifest and what a look at each photo would say, then runs each part in a process of its own and prints
seconds, processor seconds of all threads (both without imports), and the most memory the process held, files that it
mapped among it. Beside it the plain way, up to PLAIN photos: pandas, and for near duplicates FAISS's multi-hash index.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from metadata_made import GLDV2_IMAGES, make

from cairn.cleaning.looks import Looks, looked_at
from cairn.manifest import read_images, read_landmarks, whole
from cairn.params import Params, load_params
from cairn.shards import Member

PLAIN = {"validate": 500_000, "near": 50_000, "split": 500_000}  # photos that the plain way is given at most
ROOT = Path(__file__).parents[1]

Steps = Iterator[str]  # the name of each step when it is done


def validate(params: Params) -> Steps:
    """The stage: photos of nothing do not decode, and need not."""
    from cairn.checks.check import check

    yield ""
    lenient = params.validate_.model_copy(update={"min_decodable_share": 0.0})
    result = check(Path("raw"), lenient, Path("docs"), params.seed, params.clean.max_megapixels)
    assert result.passed
    yield "validate"


def plain_validate(params: Params) -> Steps:
    """The same expectations by hand."""
    import pandas as pd

    yield ""
    frame, landmarks = pd.read_parquet("raw/images.parquet"), pd.read_parquet("raw/landmarks.parquet")
    lengths = frame["shard"].map({name: (Path("raw") / name).stat().st_size for name in frame["shard"].unique()})
    assert frame["image_id"].str.fullmatch("[0-9a-f]{16}").all()
    assert frame["image_id"].is_unique
    assert frame["image_id"].is_monotonic_increasing
    assert frame["landmark_id"].isin(landmarks["landmark_id"]).all()
    assert (frame["offset"] + frame["size"] <= lengths).all()
    assert (frame["size"] <= params.validate_.max_photo_mb * 1e6).all()
    assert frame["landmark_id"].value_counts(normalize=True).max() <= params.validate_.max_class_share
    yield "validate"


def clean(params: Params) -> Steps:
    """The stage, the photos already looked at, and not copied."""
    from cairn.cleaning.clean import judge, placed, write_findings
    from cairn.manifest import write_images
    from cairn.pictures.set_aside import draw_set_aside

    yield ""
    images, looks = seen(params)
    yield "clean: read what was seen"
    found = judge(images, looks, params.clean, None, None)
    yield "clean: judge"
    kept = images.take(pa.array(found.kept))
    write_images(Path("clean"), placed(kept, planned(kept, int(params.clean.shard_mb * 1e6))))
    yield "clean: plan shards, write the manifest"
    print(write_findings(Path("raw"), Path("clean"), images, found, params.clean), file=sys.stderr)
    yield "clean: write the other tables"
    dropped = pq.read_table("clean/dropped.parquet")
    draw_set_aside(Path("raw"), images, dropped, params.clean, Path("set_aside.png"))
    yield "clean: draw what was set aside"


def seen(params: Params) -> tuple[pa.Table, Looks]:
    """The manifest and the looks that are kept."""
    images = read_images(Path("raw"))
    return images, looked_at(Path("raw"), images, Path("keep"), params.clean)


def planned(images: pa.Table, shard_bytes: int) -> Iterator[Member]:
    """Where `write_shards` would put photos of these sizes."""
    number, at = 0, 0
    for image_id, size in zip(images["image_id"].to_pylist(), images["size"].to_pylist(), strict=True):
        yield Member(image_id, f"shard_{number:05d}.tar", at + 512, size)
        at += 512 + (size + 511) // 512 * 512
        if at >= shard_bytes:
            number, at = number + 1, 0


def near(params: Params) -> Steps:
    """Near duplicates by hash alone: a part of judging."""
    from cairn.cleaning.near import pairs_by_hash

    images, looks = seen(params)
    yield ""
    pairs = pairs_by_hash(looks, np.arange(images.num_rows), params.clean.near_duplicates.group_bits)
    print(f"{len(pairs.a)} pairs", file=sys.stderr)
    yield "near duplicates by hash"


def plain_near(params: Params) -> Steps:
    """FAISS's multi-hash index, as exact: four bands of 16 bits, one of which differs in a quarter of the bits."""
    import faiss

    from cairn.cleaning.near import alike

    _, looks = seen(params)
    yield ""
    bits = params.clean.near_duplicates.group_bits
    codes = looks.hashes.astype(">u8").view(np.uint8).reshape(-1, 8)
    index = faiss.IndexBinaryMultiHash(64, 4, 16)
    index.nflip = bits // 4
    index.add(codes)
    count = 0
    for start in range(0, len(codes), 4096):
        limits, _, found = index.range_search(codes[start : start + 4096], bits + 1)
        rows = start + np.repeat(np.arange(len(limits) - 1), np.diff(limits.astype(np.int64)))
        once = rows < found
        count += int(alike(looks.thumbnails, rows[once], found[once]).sum())
    print(f"{count} pairs", file=sys.stderr)
    yield "near duplicates by hash"


def split(params: Params) -> Steps:
    """The stage."""
    from cairn.files import write_table
    from cairn.splitting import side_counts
    from cairn.splitting import split as divide

    yield ""
    images = read_images(Path("clean")).select(["image_id", "landmark_id"])
    suspects = pq.read_table("clean/suspects.parquet")
    table = divide(images, pq.read_table("clean/pairs.parquet"), suspects, params.split, params.seed)
    write_table(Path("split.parquet"), table)
    side_counts(images, suspects, table)
    yield "split"


def plain_split(params: Params) -> Steps:
    """A loop over landmarks with pandas: groups of pairs, shuffled, dealt out by the ratios."""
    import pandas as pd

    yield ""
    frame = pd.read_parquet("clean/images.parquet", columns=["image_id", "landmark_id"])
    pairs = pd.read_parquet("clean/pairs.parquet")
    group = dict(zip(frame["image_id"], frame["image_id"], strict=True))

    def root(name: str) -> str:
        while group[name] != name:
            name = group[name]
        return name

    for a, b in zip(pairs["image_a"], pairs["image_b"], strict=True):
        group[root(a)] = root(b)
    frame["group"] = frame["image_id"].map(root)
    ratios = list(params.split.ratios.model_dump().values())
    side: dict[str, int] = {}
    for _, photos in frame.groupby("landmark_id"):
        groups = photos["group"].unique()
        ends = (np.cumsum(ratios) * len(groups)).round()
        side |= dict(zip(groups, np.searchsorted(ends, np.arange(len(groups)), side="right"), strict=True))
    frame["side"] = frame["group"].map(side)
    frame.to_parquet("x")
    yield "split"


def sides(params: Params) -> Steps:
    """What later stages read of it: the photos of a side, and their numbers."""
    from cairn.sides import image_numbers, read_sides, trained_landmarks

    yield ""
    Path("build").mkdir(exist_ok=True)
    for name in ("clean", "split.parquet"):
        if not Path("build", name).exists():
            Path("build", name).symlink_to(Path(name).resolve())
    read = read_sides()
    read.rows("train", "index")
    image_numbers(read.images)
    trained_landmarks(read)
    yield "sides, as later stages read them"


PARTS: dict[str, tuple[Callable[[Params], Steps], Callable[[Params], Steps] | None]] = {
    "validate": (validate, plain_validate),
    "clean": (clean, None),
    "near": (near, plain_near),
    "split": (split, plain_split),
    "sides": (sides, None),
}


def measure(work: Callable[[Params], Steps]) -> None:
    """Run a part and print, as JSON, each step's seconds and processor seconds, and the process's peak in GB."""
    params = load_params(ROOT / "params.yaml")
    steps: dict[str, tuple[float, float]] = {}
    start, used = time.perf_counter(), time.process_time()
    for name in work(params):
        steps[name] = time.perf_counter() - start, time.process_time() - used
        start, used = time.perf_counter(), time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"steps": steps, "peak": peak}))


def run(part: str, way: int, folder: Path) -> tuple[dict[str, tuple[float, float]], float]:
    """The steps of a part, run by itself in `folder`, and its peak."""
    command = [sys.executable, Path(__file__).resolve(), "--part", part, "--way", str(way)]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True, env=os.environ)
    result = json.loads(done.stdout.splitlines()[-1])
    return {name: tuple(spent) for name, spent in result["steps"].items() if name}, result["peak"]


def compare(images: int) -> None:
    """Print the table of one size."""
    with tempfile.TemporaryDirectory(prefix="cairn-bench-") as name:
        start = time.perf_counter()
        make(Path(name), images)
        lengthen(Path(name) / "raw")
        landmarks = read_landmarks(Path(name) / "raw").num_rows
        print(f"\n{images:,} photos of {landmarks:,} landmarks (made in {time.perf_counter() - start:.0f} s)")
        print(
            f"{'':40}{'seconds':>9}{'processor':>11}{'GB':>6}   {'plain way':>9}{'processor':>11}{'GB':>6}{'ratio':>7}"
        )
        total = np.zeros(2)
        for part in PARTS:
            steps, peak = run(part, 0, Path(name))
            plain, high = run(part, 1, Path(name)) if images <= PLAIN.get(part, 0) else ({}, 0.0)
            for step, (seconds, used) in steps.items():
                line = f"{step:40}{seconds:9.1f}{used:11.1f}{peak:6.1f}"
                if step in plain:
                    line += f"   {plain[step][0]:9.1f}{plain[step][1]:11.1f}{high:6.1f}{plain[step][1] / used:7.1f}"
                print(line, flush=True)
                total += (seconds, used) if part in ("validate", "clean", "split") else 0
        print(f"{'validate, clean and split':40}{total[0]:9.1f}{total[1]:11.1f}")


def lengthen(raw: Path) -> None:
    """Make the shards, of no content, as long as the manifest says."""
    images = read_images(raw).select(["shard", "offset", "size"])
    ends = (
        images.append_column("end", pc.add(images["offset"], images["size"]))
        .group_by("shard")
        .aggregate([("end", "max")])
    )
    for shard, end in zip(whole(ends["shard"]).to_pylist(), ends["end_max"].to_pylist(), strict=True):
        with (raw / shard).open("wb") as file:
            file.truncate(end)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[GLDV2_IMAGES // 100])
    parser.add_argument("--full", action="store_true", help="all three sizes; a quarter of an hour, and 3 GB of disk")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--way", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        work = PARTS[args.part][args.way]
        assert work is not None
        measure(work)
        return
    for images in [GLDV2_IMAGES // 100, GLDV2_IMAGES // 10, GLDV2_IMAGES] if args.full else args.images:
        compare(images)


if __name__ == "__main__":
    main()
