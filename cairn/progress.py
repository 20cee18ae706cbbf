"""The progress bar of long work: on a terminal it moves, in a log it prints a line now and then."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def progress(items: Iterable[T], what: str, total: int | None = None, unit: str = "photo") -> tqdm[T]:
    """`items` behind a bar that says `what` is being done, how fast, and how long it will take."""
    calm = not sys.stderr.isatty()
    return tqdm(items, desc=what, total=total, unit=unit, unit_scale=True, mininterval=10 if calm else 0.2, ascii=calm)
