"""How a server's process keeps memory: glibc gives each image's back at once, or keeps the most there ever was.

Importing this sets it for the process, so that only what runs photos should.
"""

from __future__ import annotations

import itertools

from cairn.allocation import LIBC, set_malloc

EVERY = 16  # calls of `tidy`; what is given back is taken again, at half a microsecond a page

_calls = itertools.count(1)
# With lower thresholds every image's memory is given back and taken anew, at a millisecond or two a photo.
_set = set_malloc(trim_threshold=64 * 2**20, mmap_threshold=4 * 2**20)


def tidy() -> None:
    """To be called before each piece of work of a model: now and then gives back what the pieces before it took."""
    if _set and next(_calls) % EVERY == 0:
        LIBC.malloc_trim(0)
