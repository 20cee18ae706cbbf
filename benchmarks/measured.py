"""What benchmarks measure: the memory of this process while something runs, and the cost of a whole command."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

EVERY_S = 0.02
SESSION_EVERY_S = 0.25  # a look at many processes takes milliseconds


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


class Spent(NamedTuple):
    """What a command cost with all that it started; memory of their own that they held at once, in MB."""

    seconds: float
    processor_seconds: float
    peak_mb: float


def spent(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Spent:
    """Run a command in a session of its own. If it fails, its output is printed, and CalledProcessError raised."""
    start, before, peak = time.perf_counter(), _of_children(), 0.0
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
        while process.poll() is None:
            peak = max(peak, session_mb(process.pid))
            time.sleep(SESSION_EVERY_S)
        if process.returncode:
            log.seek(0)
            print(log.read()[-5000:], file=sys.stderr)
            raise subprocess.CalledProcessError(process.returncode, command)
    return Spent(time.perf_counter() - start, _of_children() - before, peak)


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def session_mb(session: int) -> float:
    """Memory that is no file's of all processes of a session; what several share is counted once."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(folder.name)) == session:
                text = (folder / "smaps_rollup").read_text()
                total += sum(map(int, re.findall(r"^Pss_(?:Anon|Shmem):\s+(\d+) kB", text, re.MULTILINE)))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended between the listing and the look
    return total / 1024


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0))
