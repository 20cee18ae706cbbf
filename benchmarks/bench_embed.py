"""Embedding from shards, against the bare forward pass of the same network and against the plain loop over files.

    python benchmarks/bench_embed.py [--backbone resnet18] [--photos 256]

Prints photos a second of each and their ratios, from one run with the ways taken in turn.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from cairn.answering.preprocess import prepare
from cairn.embedding import embed, locations
from cairn.manifest import read_images, write_images
from cairn.networks.embedder import Embedder, embed_batch, make_embedder
from cairn.params import SyntheticParams
from cairn.shards import ShardReader
from cairn.sources.synthetic import SyntheticSource

BATCH = 32
ROUNDS = 3


def photos(folder: Path, count: int) -> None:
    """Made photos in shards, and the same ones as files."""
    params = SyntheticParams(
        landmarks=8,
        images=count,
        distractors=0,
        exact_duplicates=0,
        near_duplicates=0,
        broken=0,
        mislabelled=0,
        size=320,
    )
    (folder / "raw").mkdir()
    (folder / "files").mkdir()
    write_images(folder / "raw", SyntheticSource(params, 64.0, 1).fetch(folder / "raw", folder).images)
    with ShardReader(folder / "raw") as reader:
        for row in read_images(folder / "raw").to_pylist():
            content = reader.read(row["shard"], row["offset"], row["size"])
            (folder / "files" / row["image_id"]).write_bytes(content)


def plain_loop(network: Embedder, folder: Path) -> None:
    """One file after the other, one photo a batch: how a script would do it."""
    for path in sorted((folder / "files").iterdir()):
        with Image.open(path) as image:
            image.load()
        embed_batch(network, torch.from_numpy(prepare(path.read_bytes(), network.config.preprocessing))[None])


def bare_forward(network: Embedder, count: int) -> None:
    """The network alone, on a batch that is already there."""
    size = network.config.preprocessing.size
    batch = torch.randn(BATCH, 3, size, size)
    for _ in range(-(-count // BATCH)):
        embed_batch(network, batch)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet18", help="any name timm knows")
    parser.add_argument("--photos", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    network = make_embedder(arguments.backbone, "none", "auto", "none", None, None, 256, 100.0, "centre").eval()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos(folder, arguments.photos)
        places = locations(folder / "raw", read_images(folder / "raw"))
        ways: dict[str, Callable[[], object]] = {
            "cairn embed": lambda: embed(network, places, BATCH),
            "bare forward pass": lambda: bare_forward(network, arguments.photos),
            "plain loop": lambda: plain_loop(network, folder),
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(ROUNDS):
            for way, work in ways.items():
                start = time.perf_counter()
                work()
                seconds[way].append(time.perf_counter() - start)
    rates = {way: arguments.photos / statistics.median(times) for way, times in seconds.items()}
    for way, rate in rates.items():
        print(f"{way:20}{rate:8.1f} photos/s   ratio of cairn embed to it {rates['cairn embed'] / rate:.2f}")


if __name__ == "__main__":
    main()
