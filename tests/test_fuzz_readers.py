"""The readers on a few hundred changed files; and the fuzzer on readers whose faults are known."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import planted_readers
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from fuzz_readers import READERS, Reader, fuzz

RUNS = 200


@pytest.mark.parametrize("name", READERS)
def test_changed_files_are_accepted_or_refused(tmp_path: Path, name: str) -> None:
    counts = fuzz(READERS[name], RUNS, 5, tmp_path)
    assert counts.total() == RUNS
    assert {what.split()[0] for what in counts} <= {"accepted", "refused"}, counts
    assert counts["accepted"] < RUNS * 0.9
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("read", "said", "least"),
    [
        (planted_readers.raising, "KeyError in planted_readers.py", 2),
        (planted_readers.dying, "exit status 3", 1),
        (planted_readers.hanging, "hang", 1),
        (planted_readers.greedy, "MemoryError in planted_readers.py", 0),
    ],
)
def test_a_fault_is_found_and_what_shows_it_is_saved(
    tmp_path: Path, read: Callable[[Path], object], said: str, least: int
) -> None:
    counts = fuzz(Reader("text", planted_readers.tildes, read, ValueError), 100, 0, tmp_path, hang_s=2)
    crash, *more = (what for what in counts if what.startswith("crashed"))
    assert not more, counts
    assert crash.startswith(f"crashed {said}")
    (saved,) = tmp_path.iterdir()
    assert saved.read_bytes().count(b"~") >= least


def test_errors_of_the_reader_s_own_are_no_faults(tmp_path: Path) -> None:
    assert fuzz(Reader("text", planted_readers.tildes, planted_readers.sound, ValueError), 50, 0, tmp_path) == {
        "refused ValueError": 50
    }
