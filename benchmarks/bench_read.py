"""Reading and decoding photos from tar shards, in order and in random order, against loose files and tarfile.

    python benchmarks/bench_read.py [--full] [--photos FOLDER]

Writes the same photos to shards and to loose files, then reads and decodes all of them by one thread: from the shards
by offset, as training and embedding do, from the loose files one after the other with Pillow, and from the shards with
tarfile. Ways are taken in turn, a part of the photos each, so that what else the machine does falls on all of them.
"""

from __future__ import annotations

import argparse
import io
import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from photos_made import contents
from PIL import Image

from cairn.photos import decode
from cairn.shards import Member, ShardReader, write_shards

FULL, SMALL = 100_000, 2_000
SHORT_SIDE, SHARD_BYTES = 256, 64_000_000
MAX_MEGAPIXELS = 100.0
PART = 500  # photos that a way reads at a stretch


def by_offset(folder: Path, members: list[Member]) -> Iterator[None]:
    """As training and embedding read."""
    with ShardReader(folder) as reader:
        for _, shard, offset, size in members:
            decode(reader.read(shard, offset, size), SHORT_SIDE, MAX_MEGAPIXELS)
            yield


def shrunk(image: Image.Image) -> None:
    """What a plain script does to a photo, and `decode` as well: RGB, and no larger than wanted."""
    image.thumbnail((image.width, SHORT_SIDE) if image.width > image.height else (SHORT_SIDE, image.height))
    image.convert("RGB")


def loose(folder: Path) -> Iterator[None]:
    """File after file."""
    for path in sorted(folder.glob("*/*")):
        with Image.open(path) as image:
            shrunk(image)
        yield


def by_tarfile(folder: Path) -> Iterator[None]:
    """Member after member."""
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for item in tar:
                member = tar.extractfile(item)
                assert member is not None
                with Image.open(io.BytesIO(member.read())) as image:
                    shrunk(image)
                yield


def write(folder: Path, photos: list[bytes], count: int) -> list[Member]:
    """The photos, repeated to `count`, in shards and as loose files, a thousand a folder."""
    named = ((f"{number:016x}", content) for number, content in enumerate(islice(cycle(photos), count)))

    def beside() -> Iterator[tuple[str, bytes]]:
        for number, (name, content) in enumerate(named):
            place = folder / "loose" / f"{number // 1000:05d}"
            place.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content)
            yield name, content

    return list(write_shards(beside(), folder / "shards", SHARD_BYTES))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=SMALL, help="photos")
    parser.add_argument("--full", action="store_true", help=f"{FULL} photos")
    parser.add_argument("--photos", type=Path, help="a folder of photos to repeat, in place of made ones")
    parser.add_argument("--short-side", type=int, default=SHORT_SIDE, help="pixels, of made photos")
    arguments = parser.parse_args()
    count = FULL if arguments.full else arguments.count
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        members = write(folder, contents(arguments.photos, count, arguments.short_side), count)
        os.sync()
        shuffled = [members[at] for at in np.random.default_rng(0).permutation(count)]
        ways: dict[str, Callable[[], Iterator[None]]] = {
            "loose files in order": lambda: loose(folder / "loose"),
            "tarfile in order": lambda: by_tarfile(folder / "shards"),
            "cairn in order": lambda: by_offset(folder / "shards", members),
            "cairn in random order": lambda: by_offset(folder / "shards", shuffled),
        }
        running = {way: start() for way, start in ways.items()}
        wall, own = dict.fromkeys(ways, 0.0), dict.fromkeys(ways, 0.0)
        for _ in range(-(-count // PART)):
            for way, reading in running.items():
                start, used = time.perf_counter(), time.process_time()
                for _ in islice(reading, PART):
                    pass
                wall[way] += time.perf_counter() - start
                own[way] += time.process_time() - used
    size = sum(member.size for member in members)
    print(f"{count} photos, {size / 1e9:.2f} GB in {len({member.shard for member in members})} shards")
    first = next(iter(ways))
    for way in ways:
        print(
            f"{way:24}{count / wall[way]:8.0f} photos/s   ratio to loose files {wall[first] / wall[way]:.2f}"
            f"   processor {own[way] / count * 1e3:.3f} ms a photo, ratio {own[first] / own[way]:.2f}"
        )


if __name__ == "__main__":
    main()
