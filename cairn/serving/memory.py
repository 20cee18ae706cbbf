"""How a server's process keeps memory: glibc gives each image's back at once, or keeps the most there ever was.

Importing this sets it for the process, so that only what runs photos should.
"""

from __future__ import annotations

import ctypes
import itertools

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of glibc's malloc.h
# With lower thresholds every image's memory is given back and taken anew, at a millisecond or two a photo.
SETTINGS = {M_TRIM_THRESHOLD: 64 * 2**20, M_MMAP_THRESHOLD: 4 * 2**20, M_ARENA_MAX: 1}
EVERY = 16  # calls of `tidy`; what is given back is taken again, at half a microsecond a page

_libc = ctypes.CDLL(None)
_glibc = hasattr(_libc, "malloc_trim")  # other libraries have ways of their own
_calls = itertools.count(1)
if _glibc:
    for option, value in SETTINGS.items():
        _libc.mallopt(option, value)


def tidy() -> None:
    """To be called before each piece of work of a model: now and then gives back what the pieces before it took."""
    if _glibc and next(_calls) % EVERY == 0:
        _libc.malloc_trim(0)
