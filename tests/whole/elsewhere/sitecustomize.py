"""Python's own start-up, with this folder on PYTHONPATH: another clock, and other orders of the entries of folders.

CAIRN_CLOCK_OFFSET_S is added to what Python's `time` says; CAIRN_SHUFFLE seeds an order of what os.listdir and
os.scandir give, and so os.walk, glob and pathlib. What C and C++ code asks the system for is not covered: datetime.now,
times of files, Triton, pyarrow's own walk over folders.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from typing import Any

OFFSET_S = float(os.environ.get("CAIRN_CLOCK_OFFSET_S", "0"))
SHUFFLE = os.environ.get("CAIRN_SHUFFLE")
now, now_ns, list_folder, scan_folder = time.time, time.time_ns, os.listdir, os.scandir
local, utc, text = time.localtime, time.gmtime, time.strftime


class Scanned:
    """What os.scandir gives, in another order."""

    def __init__(self, path: Any = ".") -> None:
        with scan_folder(path) as entries:
            self._entries = iter(shuffled(list(entries)))

    def __iter__(self) -> Iterator[Any]:
        return self._entries

    def __next__(self) -> Any:
        return next(self._entries)

    def __enter__(self) -> Scanned:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is open."""
        self._entries = iter(())


def shuffled(entries: list[Any]) -> list[Any]:
    random.Random(f"{SHUFFLE}/{len(entries)}").shuffle(entries)
    return entries


def listed(path: Any = ".") -> list[Any]:
    return shuffled(list_folder(path))


if OFFSET_S:
    time.time = lambda: now() + OFFSET_S
    time.time_ns = lambda: now_ns() + int(OFFSET_S * 1e9)
    time.localtime = lambda seconds=None: local(time.time() if seconds is None else seconds)
    time.gmtime = lambda seconds=None: utc(time.time() if seconds is None else seconds)
    time.strftime = lambda how, when=None: text(how, time.localtime() if when is None else when)
if SHUFFLE is not None:
    os.listdir = listed
    os.scandir = Scanned  # type: ignore[assignment, misc]
