"""What the fuzzer and the long load make of statuses and of looks at memory; what they send: test_bad_input.py."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import StatusCode

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from fuzz_server import OF_PHOTOS, WINDOW, Wrong, grown
from long_load import Seen, bad, report


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


def test_too_few_looks_are_a_fault_of_the_long_load() -> None:
    enough = looks(*[100.0] * WINDOW * 2)
    assert report(Seen(looks=enough)) == []
    assert report(Seen(looks=enough[1:])) == ["memory was looked at 19 times; 20 are needed: give it more --minutes"]


def faults(status: StatusCode, reason: str, allowed: set[StatusCode] | None, killed: bool = False) -> list[str]:
    """What the long load says of a wrong request that gets a status."""

    async def call(message: bytes, timeout: float) -> Any:
        if status is StatusCode.OK:
            return b""
        raise grpc.aio.AioRpcError(status, grpc.aio.Metadata(), grpc.aio.Metadata(), reason)

    seen = Seen(kills=[(time.perf_counter(), "embed")] if killed else [])
    asyncio.run(bad(call, Wrong("tensor", b"", allowed), 7, seen))
    return seen.faults


@pytest.mark.parametrize("status", [StatusCode.UNKNOWN, StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED])
def test_what_no_request_should_get_is_a_fault_also_where_any_other_status_may_come(status: StatusCode) -> None:
    assert faults(status, "away", None) == [f"request 7 (tensor) got {status.name}: away"]
    assert bool(faults(status, "away", None, killed=True)) == (status is not StatusCode.UNAVAILABLE)


def test_a_clear_error_is_none_and_one_without_a_reason_is_a_fault() -> None:
    assert faults(StatusCode.OK, "", None) == faults(StatusCode.INVALID_ARGUMENT, "shape", OF_PHOTOS) == []
    assert faults(StatusCode.NOT_FOUND, "no such version", None) == []
    assert faults(StatusCode.NOT_FOUND, "away", OF_PHOTOS) == ["request 7 (tensor) got NOT_FOUND: away"]
    assert faults(StatusCode.NOT_FOUND, "away", OF_PHOTOS, killed=True) == []
    assert faults(StatusCode.INVALID_ARGUMENT, "", None) == ["request 7 (tensor) got INVALID_ARGUMENT: "]
    assert faults(StatusCode.INTERNAL, "", None, killed=True) == ["request 7 (tensor) got INTERNAL: "]
