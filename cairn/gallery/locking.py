"""One at a time: a lock that ends with its holder, however that ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_FILE = ".lock"


class GalleryError(ValueError):
    """A gallery, a change or a version that is not as it should be; the message names it and the way out."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` alone while the block runs; the lock file in it says whose it is.

    Raises GalleryError if another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_FILE
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise GalleryError(
                f"{path}: held by another `cairn add`, `remove` or `publish`, process {holder}; wait until it has ended"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
