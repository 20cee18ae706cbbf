"""What a server's model took is given back to the system, in a process of its own: importing the module sets malloc."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

SCRIPT = """
from pathlib import Path
from cairn.serving.memory import EVERY, tidy

def resident_mb():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 // 2**20

before = resident_mb()
blocks = [b"x" * 2**20 for _ in range(200)]  # from the heap, as an image is
kept = [block for position, block in enumerate(blocks) if position % 50 == 49]  # holes, and no free end
del blocks
freed = resident_mb()
for _ in range(EVERY - 1):
    tidy()
waiting = resident_mb()
tidy()
print(freed - before, waiting - before, resident_mb() - before, len(kept))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library here is not glibc")
def test_freed_memory_is_kept_a_while_and_then_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    freed, waiting, tidied, kept = map(int, done.stdout.split())
    assert freed > 190  # MB: what was freed stays for the next photo
    assert waiting > 190
    assert kept <= tidied < 20
