"""How a process that runs a network on a CPU keeps memory: what one layer gave back, the next one takes."""

from __future__ import annotations

import ctypes
import functools

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of glibc's malloc.h
LIBC = ctypes.CDLL(None)


@functools.cache
def keep_memory() -> bool:
    """Have this process keep what it frees, up to 2 GB, but for arrays over 1 GB; whether its C library can be told so.

    To be called before threads allocate.
    """
    # By default glibc gives each large tensor's pages back and takes new ones, zeroed, for the next: three quarters of
    # the time of a MobileNetV2 with batches of 32.
    return set_malloc(trim_threshold=2**31 - 1, mmap_threshold=2**30)


def set_malloc(trim_threshold: int, mmap_threshold: int) -> bool:
    """Set glibc's thresholds, in bytes, and have all threads share one arena; whether the C library can be told so.

    Other libraries than glibc have ways of their own, and are left alone.
    """
    if not hasattr(LIBC, "malloc_trim"):
        return False
    settings = {M_TRIM_THRESHOLD: trim_threshold, M_MMAP_THRESHOLD: mmap_threshold, M_ARENA_MAX: 1}
    accepted = [LIBC.mallopt(option, value) for option, value in settings.items()]
    return all(accepted)
