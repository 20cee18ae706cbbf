"""Embedding from shards, against the bare forward pass of the same network and against the plain loop over files.

    python benchmarks/bench_embed.py [--backbone resnet18] [--weights FILE] [--photos FOLDER] [--precision bf16]
        [--batch-size 8]

The ways take turns in two processes, one set up as the stage is and one as PyTorch comes, each way once before it is
timed. Prints the medians of photos a second and of processor time, and the ratio of embedding to each.

cairn embed: what the stage does.
decoding: what that does without the network, by all threads.
bare: the network alone on batches that are there, of 8 or of 32, laid out and with memory kept as in the stage, all
threads in one batch or a batch a thread; the fastest of these is what embedding is held against.
bare, as PyTorch comes: batches of 32, nothing set.
plain loop: one photo after the other, opened and decoded in full by Pillow, resized, one a batch, nothing set.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, Popen
from typing import get_args

import numpy as np
import torch
from photos_made import contents
from PIL import Image

from cairn.allocation import keep_memory
from cairn.answering.preprocess import fitted, normalise
from cairn.embedding import embed
from cairn.locations import Location
from cairn.networks.device import best_device, move
from cairn.networks.embedder import Embedder, embed_batch, make_embedder
from cairn.networks.params import Precision
from cairn.shards import Member, write_shards
from cairn.training.photos import plain_batches

BATCH = 32  # of the ways that do not say
BATCHES = (8, 32)
ROUNDS = 5
SHORT_SIDE = 256


def network_of(backbone: str, weights: str) -> Embedder:
    """As the embed stage has it."""
    torch.manual_seed(0)
    return make_embedder(backbone, weights, "auto", "none", None, None, SHORT_SIDE, 100.0, "centre").eval()


def plain_loop(network: Embedder, places: list[Location]) -> None:
    """How a script would do it: Pillow decodes in full, and the short side becomes SHORT_SIDE."""
    how = network.config.preprocessing
    for place in places:
        with (place.root / place.shard).open("rb") as file:
            file.seek(place.offset)
            photo = Image.open(io.BytesIO(file.read(place.size))).convert("RGB")
        scale = min(1, SHORT_SIDE / min(photo.size))
        size = round(photo.width * scale), round(photo.height * scale)
        small = photo.resize(size, Image.Resampling.LANCZOS)
        embed_batch(network, torch.from_numpy(normalise(fitted(small, how), how))[None])


def images_of(network: Embedder, batch: int) -> torch.Tensor:
    """A batch that lies ready."""
    size = network.config.preprocessing.size
    return torch.randn(batch, 3, size, size)


def bare(network: Embedder, count: int, batch: int, precision: Precision) -> None:
    """The network on one batch after the other."""
    images = images_of(network, batch)
    for _ in range(count // batch):
        embed_batch(network, images, precision)


def bare_apart(network: Embedder, count: int, batch: int, precision: Precision) -> None:
    """The network on as many batches at once as there are threads."""
    images, threads = images_of(network, batch), torch.get_num_threads()
    with ThreadPoolExecutor(threads, "bare", torch.set_num_threads, (1,)) as pool:
        list(pool.map(lambda _: embed_batch(network, images, precision), range(count // batch)))
    torch.set_num_threads(threads)


def decoding(network: Embedder, places: list[Location], batch: int) -> None:
    """The photos as the network would get them."""
    for _ in plain_batches(places, network.config.preprocessing, batch):
        pass


PREPARED, AS_IT_COMES = "prepared", "as it comes"
FORWARD = "bare, by"


@dataclass(frozen=True)
class How:
    """What the ways have in common."""

    batch: int  # of embedding
    precision: Precision


WAYS: dict[str, tuple[str, Callable[[Embedder, list[Location], How], object]]] = {
    "cairn embed": (
        PREPARED,
        lambda network, places, how: embed(network, places, how.batch, precision=how.precision),
    ),
    "decoding": (PREPARED, lambda network, places, how: decoding(network, places, how.batch)),
    "bare, as PyTorch comes": (AS_IT_COMES, lambda network, places, how: bare(network, len(places), BATCH, "fp32")),
    "plain loop": (AS_IT_COMES, lambda network, places, how: plain_loop(network, places)),
}
for size in BATCHES:
    WAYS[f"{FORWARD} {size}"] = (
        PREPARED,
        lambda network, places, how, size=size: bare(network, len(places), size, how.precision),
    )
    WAYS[f"{FORWARD} {size}, a batch a thread"] = (
        PREPARED,
        lambda network, places, how, size=size: bare_apart(network, len(places), size, how.precision),
    )


def measure(arguments: argparse.Namespace) -> None:
    """For each line of standard input do each way of this process with all photos; print seconds of clock and cores."""
    torch.set_num_threads(arguments.threads)
    network = network_of(arguments.backbone, arguments.weights)
    if arguments.set_up == PREPARED:
        keep_memory()
        move(network, best_device())
    rows = json.loads((arguments.folder / "members.json").read_text())
    places = [
        Location(arguments.folder, member.shard, member.offset, member.size) for member in map(Member._make, rows)
    ]
    how = How(arguments.batch_size, arguments.precision)
    ways = {way: work for way, (set_up, work) in WAYS.items() if set_up == arguments.set_up}
    for work in ways.values():
        work(network, places[: arguments.threads * BATCH], how)
    for _ in sys.stdin:
        found = {}
        for way, work in ways.items():
            start, used = time.perf_counter(), time.process_time()
            work(network, places, how)
            found[way] = time.perf_counter() - start, time.process_time() - used
        print(json.dumps(found), flush=True)


def rounds_of(folder: Path, rounds: int) -> dict[str, list[list[float]]]:
    """Seconds of clock and cores of each way, a pair a round."""
    found: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    with ExitStack() as stack:
        command = [sys.executable, __file__, *sys.argv[1:], "--folder", str(folder), "--set-up"]
        processes = [
            stack.enter_context(Popen([*command, set_up], stdin=PIPE, stdout=PIPE, text=True))
            for set_up in (PREPARED, AS_IT_COMES)
        ]
        for _ in range(rounds):
            for process in processes:
                for way, figures in json.loads(one_round(process)).items():
                    found[way].append(figures)
    return found


def one_round(process: Popen[str]) -> str:
    """Let it do each of its ways once. Raises RuntimeError if it has died; it has said why."""
    assert process.stdin
    assert process.stdout
    print(file=process.stdin, flush=True)
    if not (line := process.stdout.readline()):
        raise RuntimeError(f"a measuring process ended with status {process.wait()}")
    return line


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet18", help="any name timm knows")
    parser.add_argument("--weights", default="none", help="a safetensors file, or none: random ones take as long")
    parser.add_argument("--photos", type=Path, help="a folder of photos, in place of made ones")
    parser.add_argument("--short-side", type=int, default=SHORT_SIDE, help="pixels, of made photos")
    parser.add_argument(
        "--count", type=int, default=256, help="photos, a multiple of 64 at best: batches are then full"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=get_args(Precision), default="fp32", help="of all but the plain ways")
    parser.add_argument("--batch-size", type=int, default=BATCH, help="of cairn embed (embed.batch_size)")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--set-up", choices=(PREPARED, AS_IT_COMES), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.set_up is not None:
        measure(arguments)
        return
    with tempfile.TemporaryDirectory() as name:
        some = contents(arguments.photos, arguments.count, arguments.short_side)
        files = [(f"{at:08d}", some[at % len(some)]) for at in range(arguments.count)]
        members = list(write_shards(files, Path(name), 64_000_000))
        (Path(name) / "members.json").write_text(json.dumps(members))
        found = rounds_of(Path(name), arguments.rounds)
    wall, used = ({way: statistics.median(row[at] for row in rows) for way, rows in found.items()} for at in (0, 1))
    best = min((way for way in WAYS if way.startswith(FORWARD)), key=lambda way: wall[way])
    size = np.mean([len(content) for _, content in files]) / 1000
    print(
        f"{arguments.backbone}, {arguments.count} photos of {size:.0f} kB, {arguments.threads} threads, "
        f"{arguments.precision}, batches of {arguments.batch_size}"
    )
    for way in WAYS:
        said = "  the best of the bare ones" if way == best else ""
        print(
            f"{way:32}{arguments.count / wall[way]:8.1f} photos/s  ratio to it {wall[way] / wall['cairn embed']:6.2f}"
            f"   processor {used[way] / arguments.count * 1e3:7.2f} ms  {used[way] / used['cairn embed']:6.2f}{said}"
        )
    limit = wall[best] / (wall[best] + wall["decoding"])
    print(f"what the best bare forward pass and the decoding leave possible on these cores: {limit:.2f}")


if __name__ == "__main__":
    main()
