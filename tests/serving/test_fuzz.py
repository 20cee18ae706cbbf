"""What the fuzzer makes of its looks at memory; what it sends is tried in test_bad_input.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from fuzz_server import WINDOW, grown


def looks(*megabytes: float) -> list[dict[str, float]]:
    return [{"server": mb / 2, "all": mb} for mb in megabytes]


def test_growth_over_two_percent_is_a_fault_and_single_peaks_are_not() -> None:
    steady = [100.0] * WINDOW
    assert grown(looks(*steady, *steady)) == []
    assert grown(looks(*steady, *[101.9] * WINDOW)) == []
    assert grown(looks(*steady, *[102.1] * WINDOW)) == ["memory grew by 2.1%, more than 2%"]
    assert grown(looks(*steady, *steady[1:], 500.0)) == []


def test_too_few_looks_are_said_to_be_too_few(capsys: pytest.CaptureFixture[str]) -> None:
    assert grown(looks(*[100.0] * WINDOW, 200.0)) == []
    assert capsys.readouterr().out == "memory was looked at 11 times, which is too few to say whether it grew\n"
