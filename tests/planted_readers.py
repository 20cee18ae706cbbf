"""Readers with faults that the fuzzer of readers should find. In a file of their own: other processes import them."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import strategies as st


def tildes() -> st.SearchStrategy[bytes]:
    """What they are given."""
    return st.lists(st.sampled_from([b"a", b"b", b"~"]), max_size=8).map(b"".join)


def sound(path: Path) -> None:
    """Refuses all."""
    raise ValueError(path)


def raising(path: Path) -> None:
    """Another error where there are two tildes or more."""
    if path.read_bytes().count(b"~") > 1:
        {}["nothing"]
    raise ValueError(path)


def dying(path: Path) -> None:
    """As a library in C does."""
    if b"~" in path.read_bytes():
        os._exit(3)
    raise ValueError(path)


def hanging(path: Path) -> None:
    """For ever."""
    while b"~" in path.read_bytes():
        pass
    raise ValueError(path)


def greedy(path: Path) -> bytearray:
    """More than there is."""
    return bytearray(1 << 45)
