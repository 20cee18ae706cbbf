"""What cleaning does to large photos, against the plain loop of Pillow: open, resize, save.

    python benchmarks/bench_resize.py [--photos FOLDER] [--count 24]

For photos of 1 to 12 megapixels: photos a second of both, the processor time of each, and how like the results are.
Cleaning works in as many processes as cores, their start not counted, and does more than the loop: it also hashes each
photo in two ways and makes a thumbnail. The plain loop is one process that decodes in full, resizes with Lanczos and
saves with the same quality. SSIM: Wang et al., Image Quality Assessment, IEEE TIP 2004, of brightness, in windows of 11
pixels; the mean and the least over photos.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tempfile
import time
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from photos_made import as_jpeg, scenes
from PIL import Image

from cairn.cleaning.inspection import Look, look_at
from cairn.params import CleanParams, load_params
from cairn.shards import Member, write_shards

MEGAPIXELS = (1, 2, 3, 4, 6, 8, 12)
DIFFERENT = 6  # photos of each size; the count repeats them
ROUNDS = 3
PARAMS = Path(__file__).parents[1] / "params.yaml"


def ssim(a: Image.Image, b: Image.Image) -> float:
    """Structural similarity of two images of one size: Gaussian windows of sigma 1.5, K = .01 and .03."""
    x, y = (np.asarray(image.convert("L"), np.float64) for image in (a, b))

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(cv2.GaussianBlur(values, (11, 11), 1.5), np.float64)

    mx, my = mean(x), mean(y)
    vx, vy, both = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return float(np.mean((2 * mx * my + c1) * (2 * both + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))))


class Times:
    """Seconds of the clock and of processors, by megapixels; of several rounds the median."""

    def __init__(self) -> None:
        self._rounds: dict[int, list[tuple[float, float]]] = {}

    def add(self, megapixels: int, wall: float, used: float) -> None:
        """Those of one round."""
        self._rounds.setdefault(megapixels, []).append((wall, used))

    def wall(self, megapixels: int) -> float:
        """Of the clock."""
        return statistics.median(wall for wall, _ in self._rounds[megapixels])

    def used(self, megapixels: int) -> float:
        """Of processors, all together."""
        return statistics.median(used for _, used in self._rounds[megapixels])


def plain_loop(files: list[Path], out: Path, params: CleanParams) -> None:
    """Open, resize, save: how a script would do it."""
    for path in files:
        with Image.open(path) as image:
            photo = image.convert("RGB")
        scale = params.short_side / min(photo.size)
        size = round(photo.width * scale), round(photo.height * scale)
        photo.resize(size, Image.Resampling.LANCZOS).save(
            out / path.name, "JPEG", quality=params.jpeg_quality, subsampling=0
        )


def look(raw: Path, params: CleanParams, place: Member) -> tuple[Look, float]:
    """What cleaning does to one photo, and the processor time it took."""
    start = time.process_time()
    return look_at(raw, params, place), time.process_time() - start


def places(folder: Path, contents: dict[str, bytes]) -> list[Member]:
    """The photos in shards."""
    return list(write_shards(contents.items(), folder, 64_000_000))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="a folder of large photos, in place of made ones")
    parser.add_argument("--count", type=int, default=24, help="photos of each size")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    params = load_params(PARAMS).clean.model_copy(update={"workers": arguments.workers})
    plain, ours = Times(), Times()
    print("megapixels  plain loop   cleaning  ratio   processor ms a photo  ratio    SSIM mean   least")
    with tempfile.TemporaryDirectory() as name, get_context("forkserver").Pool(arguments.workers) as pool:
        raw, files, out = (Path(name) / what for what in ("raw", "files", "out"))
        for folder in (raw, files, out):
            folder.mkdir()
        for megapixels in MEGAPIXELS:
            different = [as_jpeg(image) for image in scenes(arguments.photos, DIFFERENT, megapixels)]
            contents = {f"{at:05d}": different[at % DIFFERENT] for at in range(arguments.count)}
            for file, content in contents.items():
                (files / file).write_bytes(content)
            held = places(raw / str(megapixels), contents)
            work = partial(look, raw / str(megapixels), params)
            pool.map(work, held, chunksize=1)  # the processes have started, and the files are in the page cache
            for _ in range(ROUNDS):
                start, used = time.perf_counter(), time.process_time()
                plain_loop([files / file for file in contents], out, params)
                plain.add(megapixels, time.perf_counter() - start, time.process_time() - used)
                start = time.perf_counter()
                looked = pool.map(work, held, chunksize=1)
                ours.add(megapixels, time.perf_counter() - start, sum(seconds for _, seconds in looked))
            said = likenesses([found for found, _ in looked[:DIFFERENT]], out)
            rates = [arguments.count / times.wall(megapixels) for times in (plain, ours)]
            used_ms = [times.used(megapixels) / arguments.count * 1e3 for times in (plain, ours)]
            print(
                f"{megapixels:>10}{rates[0]:10.1f} /s{rates[1]:9.1f} /s{rates[1] / rates[0]:7.2f}"
                f"{used_ms[0]:14.1f}{used_ms[1]:9.1f}{used_ms[0] / used_ms[1]:7.2f}"
                f"{statistics.mean(said):13.4f}{min(said):8.4f}",
                flush=True,
            )
    whole = [sum(times.wall(megapixels) for megapixels in MEGAPIXELS) for times in (plain, ours)]
    print(f"all of them, as many of each: ratio {whole[0] / whole[1]:.2f}")


def likenesses(looks: list[Look], out: Path) -> list[float]:
    """SSIM of what cleaning stores against what the plain loop saved."""
    found = []
    for seen in looks:
        assert seen.encoded is not None
        with Image.open(io.BytesIO(seen.encoded)) as ours, Image.open(out / seen.image_id) as theirs:
            found.append(ssim(ours, theirs))
    return found


if __name__ == "__main__":
    main()
