"""What bench_gpu.py measures with: rates of work on a device, how long batches are waited for, a book of figures."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple, TypeVar

import torch
from tqdm import tqdm

T = TypeVar("T")

WARM_SHARE = 0.2  # of a measurement's time, before it
WARM_STEPS = 3  # at least


@dataclass(frozen=True)
class Settings:
    """How large everything is."""

    device: torch.device
    backbones: tuple[str, ...]
    seconds: float  # of each measurement
    batch: int  # photos of a training step
    embed_batch: int  # photos embedded at once, beside the number of params.yaml
    cores: int
    short_side: int  # pixels of the made photos
    photos: int  # different ones
    vectors: int  # to search
    dimensions: int
    queries: int
    compiler: str  # torch.compile's backend


class Figure(NamedTuple):
    """A measured number; `ratios` has, by the name of another of the same section and network, value / its value."""

    section: str
    network: str
    what: str
    value: float
    unit: str
    ratios: dict[str, float]
    goal: float | None = None  # of the first ratio, at least


class LeftOut(NamedTuple):
    """What was not measured, and why."""

    section: str
    network: str
    what: str
    why: str


class Note(NamedTuple):
    """What figures mean together."""

    section: str
    network: str
    said: str


@dataclass
class Book:
    """All that a run found. Each figure is printed when it comes."""

    until: float  # of time.monotonic(): nothing long is begun that would end later
    figures: list[Figure] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def value(self, section: str, network: str, what: str) -> float | None:
        """A figure that is there."""
        return next((f.value for f in self.figures if f[:3] == (section, network, what)), None)


@dataclass(frozen=True)
class Page:
    """The figures of one network, or of none, in a section."""

    book: Book
    section: str
    network: str = ""

    def add(self, what: str, value: float, unit: str, *to: str, goal: float | None = None) -> float:
        """Take in and print a figure, with its ratio to each of those named `to` that are there; the figure."""
        known = {other: self.value(other) for other in to}
        ratios = {other: value / found for other, found in known.items() if found}
        self.book.figures.append(Figure(self.section, self.network, what, value, unit, ratios, goal))
        shown = f"{value:12,.1f}" if unit.endswith("/s") else f"{value:12.4f}"
        said = [f"{ratio:.2f} of {other}" for other, ratio in ratios.items()]
        if goal is not None and said:
            said[0] += f" (goal {goal:g})"
        say(f"{self.network:24}{what:44}{shown} {unit:10} {'; '.join(said)}".rstrip())
        return value

    def value(self, what: str) -> float | None:
        """A figure of this page."""
        return self.book.value(self.section, self.network, what)

    def leave(self, what: str, why: str) -> None:
        """Say that something is left out."""
        self.book.left_out.append(LeftOut(self.section, self.network, what, why))
        say(f"{self.network:24}{what:44}left out: {why}")

    def note(self, said: str) -> None:
        """Say what figures mean."""
        self.book.notes.append(Note(self.section, self.network, said))
        say(f"{self.network:24}{said}".strip())

    def time_for(self, what: str, seconds: float) -> bool:
        """Whether so many seconds are left; if not, `what` is left out."""
        left = self.book.until - time.monotonic()
        if left < seconds:
            self.leave(what, f"it may take {seconds:.0f} s, and {max(0, left):.0f} are left; raise --limit")
        return left >= seconds

    @contextmanager
    def trying(self, what: str) -> Iterator[None]:
        """A block that may need more memory than the device has; what it held there is free behind it."""
        try:
            yield
        except torch.OutOfMemoryError:
            self.leave(what, "the device has too little memory; take a smaller --batch")
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def say(line: str) -> None:
    """Print a line, on a terminal above the progress bars."""
    if sys.stderr.isatty():
        tqdm.write(line)
    else:
        print(line, flush=True)


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def rate(step: Callable[[], object], count: int, seconds: float, device: torch.device) -> float:
    """How many a second `step` does, which does `count` of them on the device, when it is warm."""

    def stepped(least: int, lasting: float) -> float:
        begin, steps = time.perf_counter(), 0
        while steps < least or time.perf_counter() - begin < lasting:
            step()
            steps += 1
        synchronise(device)
        return steps / (time.perf_counter() - begin)

    stepped(WARM_STEPS, WARM_SHARE * seconds)
    return count * stepped(1, seconds)


def paced(work: Callable[[int], object], count: int, seconds: float) -> float:
    """Photos a second of `work(n)`, which ends with n photos done: `count` of them twice, to be warm and to learn how
    many fit into the time, and then so many.
    """
    spent = [0.0, 0.0]
    for at in range(2):
        begin = time.perf_counter()
        work(count)
        spent[at] = time.perf_counter() - begin
    many = count * max(1, round(seconds / spent[1]))
    begin = time.perf_counter()
    work(many)
    return many / (time.perf_counter() - begin)


@dataclass
class Window:
    """What was seen of a loop over batches while it was measured."""

    batches: int = 0
    seconds: float = 0.0
    waited: float = 0.0  # of these, for batches to come

    def rate(self, batch: int) -> float:
        """Photos a second, of batches of so many."""
        return self.batches * batch / self.seconds


def timed(batches: Iterable[T], warm: int, seconds: float, device: torch.device, window: Window) -> Iterator[T]:
    """Pass batches on to a loop: `warm` of them, then for so many seconds more, which are written into `window`.

    The device is synchronised at both ends, so that all it did for the window's batches is in its time.
    """
    source = iter(batches)
    yield from islice(source, warm)
    synchronise(device)
    begin = asked = time.perf_counter()
    for batch in source:
        window.waited += time.perf_counter() - asked
        window.batches += 1
        yield batch
        asked = time.perf_counter()
        if asked - begin >= seconds:
            break
    synchronise(device)
    window.seconds = time.perf_counter() - begin
