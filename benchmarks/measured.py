"""What benchmarks measure of a process: its memory while something runs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

EVERY_S = 0.02


@dataclass
class Cost:
    """Of a block: its time, and the most memory of its own, in MB, that the process had in it and before it.

    Pages of mapped files are left out: the system takes them back where it needs them, and processes share them.
    """

    seconds: float = 0.0
    before_mb: float = 0.0
    peak_mb: float = 0.0


def own_mb() -> float:
    """Memory of this process that is no file's."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return (int(fields["RssAnon"].split()[0]) + int(fields["RssShmem"].split()[0])) / 1024


@contextmanager
def cost() -> Iterator[Cost]:
    """Measure a block; the figures are there behind it."""
    measured, done = Cost(before_mb=own_mb()), threading.Event()

    def watch() -> None:
        while not done.wait(EVERY_S):
            measured.peak_mb = max(measured.peak_mb, own_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    try:
        yield measured
    finally:
        measured.seconds = time.perf_counter() - start
        done.set()
        watcher.join()
        measured.peak_mb = max(measured.peak_mb, own_mb())


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0))
