"""A sub-center ArcFace head of Google Landmarks v2's size: each step over all classes, against a share of them.

    python benchmarks/bench_head.py --full              # 203,094 classes x 512 x 3: a step over all takes 11 GB
    python benchmarks/bench_head.py                     # a tenth of the classes
    python benchmarks/bench_head.py --curves            # what is learnt: made data, a small head

Prints the largest memory of a process that does nothing else, and for a step (loss, gradients and AdamW) milliseconds
and those of a processor, which other work beside it changes less; each way in a process of its own. `all, plain` is the
loss and torch's optimiser, as without `class_share`. `validate` is the best class of 1,024 photos, by blocks of classes
and in one matrix. Then the time and memory of making an epoch's batches of Google Landmarks v2's photos, by sampler.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from cairn.losses.arcface import ArcFace
from cairn.losses.base import LossHead
from cairn.losses.partial import draw_classes, part_of, partial_loss
from cairn.losses.subcenter import SubCenterArcFace
from cairn.params import Schedule, load_params
from cairn.stage import PARAMS
from cairn.training.rows import RowOptimiser
from cairn.training.samplers import ClassesByImages, EpochBatches, Shuffled, Subspaces

CLASSES, PHOTOS, DIMENSIONS, CENTRES, BATCH = 203_094, 4_132_914, 512, 3, 64
WAYS = ("start alone", "all, plain", "1", "0.5", "0.1", "0.02", "validate", "validate, one matrix")
SAMPLERS = ("shuffled", "classes", "subspaces")


def schedule() -> Schedule:
    """AdamW as the project's params have it."""
    return load_params(PARAMS).train.scratch.model_copy(update={"head_lr": 0.01, "weight_decay": 0.0})


def largest_mb() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def sizes_of(classes: int, photos: int) -> np.ndarray:
    """Photos of each class, at least one, in a long tail like that of Google Landmarks v2."""
    weights = 1 / np.arange(1, classes + 1) ** 0.7
    return 1 + np.floor(weights / weights.sum() * (photos - classes)).astype(np.int64)


def plain_step(head: LossHead) -> Callable[[Tensor, Tensor, int], None]:
    """All classes, torch's AdamW."""
    optimiser = torch.optim.AdamW(head.parameters(), lr=0.01, weight_decay=0.0)

    def step(features: Tensor, classes: Tensor, number: int) -> None:
        optimiser.zero_grad()
        head(features, classes).backward()
        optimiser.step()

    return step


def partial_step(head: LossHead, share: float) -> Callable[[Tensor, Tensor, int], None]:
    """A share of the classes."""
    rows = RowOptimiser(head.requires_grad_(False), schedule())

    def step(features: Tensor, classes: Tensor, number: int) -> None:
        chosen = draw_classes(classes.numpy(), head.classes, share, np.random.default_rng(number))
        part = part_of(head, chosen)
        partial_loss(head, part, features, classes).backward()
        rows.step(part, 1.0)

    return step


def measure_step(way: str, classes: int, steps: int) -> str:
    """One line on a way of making a step."""
    torch.manual_seed(0)
    head = SubCenterArcFace(DIMENSIONS, sizes_of(classes, classes * 20), 30.0, 0.05, 0.5, CENTRES)
    if way == "start alone":
        return f"{largest_mb():8.0f} MB"
    generator = torch.Generator().manual_seed(0)
    if way.startswith("validate"):
        features = torch.randn(1024, DIMENSIONS, generator=generator)
        start = time.perf_counter()
        with torch.no_grad():
            best = head.best(features)[1] if way == "validate" else head.scores(features).argmax(dim=1)
        seconds = time.perf_counter() - start
        return f"{largest_mb():8.0f} MB {seconds * 1e3:9.0f} ms for 1,024 photos (classes' sum {int(best.sum())})"
    step = plain_step(head) if way == "all, plain" else partial_step(head, float(way))
    times, processor = [], []
    for number in range(steps):
        features = torch.randn(BATCH, DIMENSIONS, generator=generator, requires_grad=True)
        numbers = torch.randint(0, classes, (BATCH,), generator=generator)
        start = time.perf_counter(), time.process_time()
        step(features, numbers, number)
        times.append(time.perf_counter() - start[0])
        processor.append(time.process_time() - start[1])
    found, used = (statistics.median(each[1:]) * 1e3 for each in (times, processor))
    return f"{largest_mb():8.0f} MB {found:9.0f} ms a step, {used:9.0f} ms of a processor"


def measure_sampler(name: str, classes: int, photos: int) -> str:
    """One line on making a sampler, and an epoch's batches."""
    sizes = sizes_of(classes, photos)
    owner = np.random.default_rng(0).permutation(np.repeat(np.arange(classes), sizes))
    start = time.perf_counter()
    sampler: EpochBatches
    if name == "shuffled":
        sampler = Shuffled(len(owner), BATCH, 1)
    elif name == "classes":
        sampler = ClassesByImages(owner, 16, 4, 1)
    else:
        means = np.random.default_rng(0).standard_normal((classes, 64)).astype(np.float32)
        sampler = Subspaces(owner, means, 20, 16, 4, 1, rounds=0)
    made = time.perf_counter() - start
    start = time.perf_counter()
    batches = sampler.batches()
    seconds = time.perf_counter() - start
    del batches
    tracemalloc.start()
    count = len(sampler.batches())
    memory = tracemalloc.get_traced_memory()[1] / 2**20
    return f"made in {made:5.2f} s, {len(owner)} photos' {count} batches in {seconds:5.2f} s, {memory:6.0f} MB at most"


def curve(share: float, steps: int, seed: int) -> list[tuple[int, float, float]]:
    """Step, mean loss over all classes and accuracy on photos not trained on, by a linear network on made data.

    2,000 classes of 32 dimensions, noise of the size of the classes' own distances, seen through a random mixing.
    """
    rng = torch.Generator().manual_seed(seed)
    centres = nn.functional.normalize(torch.randn(2000, 32, generator=rng), dim=1)
    mixing = torch.randn(32, 64, generator=rng)
    torch.manual_seed(seed)
    network, head = nn.Linear(64, 32), ArcFace(32, 2000, 16.0, 0.1)
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.003, weight_decay=0.0)
    head_step = RowOptimiser(head.requires_grad_(False), schedule())

    def photos(count: int) -> tuple[Tensor, Tensor]:
        classes = torch.randint(0, 2000, (count,), generator=rng)
        return (centres[classes] + 0.1 * torch.randn(count, 32, generator=rng)) @ mixing, classes

    shown, known = photos(2000)
    found = []
    for number in range(steps + 1):
        if number % (steps // 8) == 0:
            with torch.no_grad():
                features = network(shown)
                right = (head.best(features)[1] == known).float().mean().item()
                found.append((number, head(features, known).item(), right))
        features, classes = photos(BATCH)
        part = part_of(head, draw_classes(classes.numpy(), 2000, share, np.random.default_rng((seed, number))))
        optimiser.zero_grad()
        partial_loss(head, part, network(features), classes).backward()
        optimiser.step()
        head_step.step(part, 1.0)
    return found


def print_curves(steps: int) -> None:
    """Loss and accuracy by share, mean of three seeds."""
    shares = (1.0, 0.5, 0.1, 0.04)
    curves = {share: np.mean([curve(share, steps, seed) for seed in range(3)], axis=0) for share in shares}
    print("step    " + "".join(f"share {share:<16g}" for share in shares))
    for row in range(len(curves[1.0])):
        line = "".join(f"{curves[share][row][1]:7.3f} {curves[share][row][2]:7.3f}       " for share in shares)
        print(f"{int(curves[1.0][row][0]):5}   {line}")
    print("(the loss over all classes, and the accuracy, on photos not trained on)")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="all classes and photos, in place of a tenth")
    parser.add_argument("--curves", action="store_true", help="only the curves of a small problem")
    parser.add_argument("--steps", type=int, default=6, help="of which the first is not counted")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ways", nargs="+", choices=[*WAYS, *SAMPLERS], default=[*WAYS, *SAMPLERS], metavar="WAY")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    tenth = 1 if arguments.full else 10
    classes, photos = CLASSES // tenth, PHOTOS // tenth
    if arguments.curves:
        print_curves(1600 if arguments.steps == 6 else arguments.steps)
    elif arguments.measure in SAMPLERS:
        print(measure_sampler(arguments.measure, classes, photos))
    elif arguments.measure is not None:
        print(measure_step(arguments.measure, classes, arguments.steps))
    else:
        print(f"{classes} classes, {DIMENSIONS} dimensions, {CENTRES} centres, batches of {BATCH}", flush=True)
        for way in arguments.ways:
            print(f"{way:22}", end="", flush=True)
            given = ["--steps", str(arguments.steps), "--threads", str(arguments.threads), "--measure", way]
            full = ["--full"] if arguments.full else []
            subprocess.run([sys.executable, __file__, *given, *full], check=True)


if __name__ == "__main__":
    main()
