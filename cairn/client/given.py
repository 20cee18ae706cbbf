"""Which photos a command line means, and their bytes: files, folders, lists of files, standard input."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from cairn.client.answers import PhotoError

STDIN = Path("-")
SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".mpo", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)


def found(given: Iterable[Path]) -> list[Path]:
    """The files and folders of a command line, folders walked."""
    return [path for each in given for path in found_in(each)]


def found_in(given: Path) -> list[Path]:
    """`given` itself, or of a folder the image files in it, at any depth, in order of their paths; hidden ones not."""
    if not given.is_dir():
        return [given]
    files = (path for path in sorted(given.rglob("*")) if path.suffix.lower() in SUFFIXES and path.is_file())
    shown = [path for path in files if not any(part.startswith(".") for part in path.relative_to(given).parts)]
    return shown or [given]


def listed(source: Path) -> list[Path]:
    """The paths in a file, or on standard input where it is `-`: one a line, or with a NUL behind each.

    A list with a NUL in it is of that kind, as of `find -print0`: no path holds one. Raises OSError if the file cannot
    be read.
    """
    content = sys.stdin.buffer.read() if source == STDIN else source.read_bytes()
    lines = content.split(b"\0") if b"\0" in content else content.splitlines()
    return [Path(os.fsdecode(line)) for line in lines if line]


def contents(paths: Iterable[Path], max_mb: float) -> Iterator[tuple[Path, bytes | PhotoError]]:
    """Each path and its bytes, or why there are none; of a file over `max_mb` no more is read than shows that."""
    for path in paths:
        yield path, _content(path, max_mb)


def _content(path: Path, max_mb: float) -> bytes | PhotoError:
    if path != STDIN and path.is_dir():
        return PhotoError("no image files in this folder")
    try:
        if path == STDIN:
            return _limited(sys.stdin.buffer, max_mb)
        with path.open("rb") as file:
            return _limited(file, max_mb)
    except OSError as error:
        return PhotoError(f"cannot be read: {error.strerror}")


def _limited(file: BinaryIO, max_mb: float) -> bytes | PhotoError:
    limit = int(max_mb * 1e6)
    content = file.read(limit + 1)
    return content if len(content) <= limit else PhotoError(f"over the limit of {max_mb:g} MB")
