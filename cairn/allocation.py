"""How a process that runs a network on a CPU keeps memory: what one layer gave back, the next one takes."""

from __future__ import annotations

import ctypes
import functools

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of glibc's malloc.h
# By default glibc gives each large tensor's pages back and takes new ones, zeroed, for the next: three quarters of the
# time of a MobileNetV2 with batches of 32.
SETTINGS = {M_TRIM_THRESHOLD: 2**31 - 1, M_MMAP_THRESHOLD: 2**30, M_ARENA_MAX: 1}


@functools.cache
def keep_memory() -> bool:
    """Have this process keep what it frees, up to 2 GB, but for arrays over 1 GB; whether its C library can be told so.

    To be called before threads allocate. Other libraries than glibc have ways of their own, and are left alone.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "malloc_trim"):
        return False
    accepted = [libc.mallopt(option, value) for option, value in SETTINGS.items()]
    return all(accepted)
