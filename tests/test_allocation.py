"""Memory that a process keeps: what was given back is taken again without new pages."""

from __future__ import annotations

import subprocess
import sys

FAULTS = """
import resource, sys
import numpy as np
from cairn.allocation import keep_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

kept = keep_memory() if sys.argv[1] == "keep" else True
np.ones(2**24)
before = faults()
for _ in range(4):
    np.ones(2**24)
print(int(kept), faults() - before)
"""


def test_what_was_freed_is_taken_again_without_new_pages() -> None:
    def faults(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, check=True, text=True)
        kept, counted = map(int, done.stdout.split())
        assert kept == 1
        return counted

    assert faults("keep") * 10 < faults("leave")
