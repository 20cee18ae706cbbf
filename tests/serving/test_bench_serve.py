"""The benchmark of serving: what its load counts, that all ways answer the same, and how a request's time is parted."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from serving.tiny_repository import Tiny

from cairn.client import Client, PhotoError
from cairn.photos import DecodeError
from cairn.serving.control import Control, read
from cairn.serving.server import Server

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import bench_serve
import serving_in_process
import serving_load
from serving_load import Log, Request, Target

PHOTOS = [bytes([i]) for i in range(5)]


async def tenth(photos: Sequence[bytes]) -> list[int | None]:
    """A service that takes a tenth of a second, and knows a photo's number."""
    await asyncio.sleep(0.1)
    return [photo[0] for photo in photos]


def test_clients_that_wait_send_as_many_as_fit_into_the_time() -> None:
    log = asyncio.run(serving_load.closed_loop(tenth, PHOTOS, clients=4, seconds=3.0, a_request=3))
    assert log.latencies.min() >= 0.1
    in_flight = log.photos_per_second * log.latencies.mean()  # Little's law, however slow the machine is
    assert in_flight == pytest.approx(4 * 3, rel=0.25)
    assert log.answers == dict(enumerate(range(5)))
    assert log.requests[0].due < log.begin, "the warm-up is counted neither in the rate nor in the latencies"
    assert len(log.latencies) < len(log.requests)


def test_arrivals_are_those_of_a_poisson_process_and_of_the_seed() -> None:
    times = serving_load.arrivals(rate=50, seconds=200, seed=1)
    gaps = np.diff(times, prepend=0)
    assert (gaps > 0).all()
    assert times[-1] < 200
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.05)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05), "as long as their mean: no rhythm"
    assert np.array_equal(times, serving_load.arrivals(50, 200, 1))
    assert not np.array_equal(times[:9], serving_load.arrivals(50, 200, 2)[:9])


def test_a_service_that_stalls_cannot_hide_it() -> None:
    """It blocks the load itself for 0.4 s: what was due meanwhile was sent late, and waited all the same."""
    stalled = []

    async def stalls(photos: Sequence[bytes]) -> list[int | None]:
        if not stalled:
            stalled.append(True)
            time.sleep(0.4)
        return [None]

    log = asyncio.run(serving_load.open_loop(stalls, PHOTOS, rate=100, seconds=0.5, seed=0))
    assert len(log.requests) == len(serving_load.arrivals(100, 0.5, 0))
    late = log.latencies > 0.1
    assert late.mean() > 0.4, "of those due in the first 0.4 s of 0.5 s, three quarters waited over 0.1 s"
    assert log.latencies.max() >= log.lateness.max() > 0.3


def test_refused_requests_are_counted_and_make_a_run_worth_nothing() -> None:
    async def refuses(photos: Sequence[bytes]) -> list[int | None]:
        await asyncio.sleep(0.01)
        if photos[0] == PHOTOS[0]:
            raise PhotoError("queue is full")
        return [1]

    log = asyncio.run(serving_load.closed_loop(refuses, PHOTOS, clients=1, seconds=0.3))
    assert log.failures.total() == pytest.approx(len(log.requests) / 4, abs=1)
    with pytest.raises(bench_serve.BenchError, match=r"most often: PhotoError: queue is full"):
        bench_serve.whole(log)


def test_the_rate_counts_what_was_answered_in_time() -> None:
    requests = [Request(t, t, t + 1.5) for t in (0.0, 1.0, 2.0, 3.0, 4.0)]
    log = Log(photos_a_request=2, seconds=2.0, requests=requests, begin=2.0)
    assert log.photos_per_second == 2 * 2 / 2.0
    assert log.latencies.tolist() == [1.5] * 3


def test_the_server_answers_as_the_one_process_does(tiny: Tiny, tiny_serving: Server) -> None:
    photos = [*tiny.known.values(), tiny.unknown]
    serving_load.begin(photos, os.sched_getaffinity(0))
    expected = [*tiny.known, None]
    pipeline = serving_in_process.InProcess(tiny.repository)
    assert pipeline.landmarks(photos, batch=3) == expected
    for many in (1, 3):
        log = serving_load.run_closed(Target("grpc", tiny_serving.address, many), clients=2, seconds=2.0)
        assert log.answers == dict(enumerate(expected))
    assert serving_load.run_each(Target("grpc", tiny_serving.address)).answers == dict(enumerate(expected))


@pytest.mark.parametrize("ahead", [False, True])
def test_the_one_process_answers_every_photo_of_its_batches(tiny: Tiny, ahead: bool) -> None:
    pipeline = serving_in_process.InProcess(tiny.repository)
    photos = list(tiny.known.values())
    seen = []
    batches = pipeline.prepared(photos, serving_in_process.Way(2, ahead))
    for _ in range(3):
        seen += pipeline.answers(next(batches))["landmark_id"].ravel().tolist()
    assert seen == [*tiny.known, *tiny.known]
    speed = pipeline.speed(photos, serving_in_process.Way(2, ahead), 0.1)
    assert speed.photos_per_second > 0
    assert speed.processor_ms > 0


def test_a_photo_that_cannot_be_decoded_is_named_before_anything_is_measured(tiny: Tiny) -> None:
    with pytest.raises(DecodeError, match=r"photo 1: not an image.*; leave it out"):
        serving_in_process.InProcess(tiny.repository).check([tiny.unknown, b"no photo"])


def test_photos_come_from_shards_or_from_a_folder_of_files(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(tiny.unknown)
    (tmp_path / "a.jpg").write_bytes(tiny.known[3])
    (tmp_path / "notes.txt").write_text("no photo")
    assert bench_serve.read_photos(tmp_path, 9) == [tiny.known[3], tiny.unknown]
    shards = bench_serve.read_photos(tiny.photos, 4)
    assert len(shards) == 4
    assert all(photo.startswith(b"\x89PNG") for photo in shards)
    (tmp_path / "empty").mkdir()
    with pytest.raises(bench_serve.BenchError, match=r"empty: no images\.parquet and no image files"):
        bench_serve.read_photos(tmp_path / "empty", 9)


def test_a_profile_has_every_part_of_a_photo(tiny: Tiny) -> None:
    found = serving_in_process.InProcess(tiny.repository).profile([tiny.unknown] * 5, batch=2)
    before = sum(found[part] for part in ("decode", "resize"))
    assert 0.02 < before < 50, "milliseconds"
    assert {"network", "search", "chain", "names and neighbours"} < set(found)


def counted(control: Control, before: bench_serve.Spent) -> bench_serve.Spent | None:
    """What each model spent, once each has counted one request more, after its answer; None if that does not come."""
    until = time.monotonic() + 5
    models = ("preprocess", "embed", "retrieve", "landmark")
    while time.monotonic() < until:
        after = bench_serve.spent(control)
        if all(after[model]["requests"] - before[model]["requests"] == 1 for model in models):
            return after
    return None


def test_parts_of_a_request_are_those_that_triton_counted(tiny: Tiny, tiny_serving: Server) -> None:
    control = read(tiny_serving.folder)
    for _ in range(50):
        before = bench_serve.spent(control)
        with Client(tiny_serving.address, 30.0) as client:
            start = time.perf_counter()
            client.query([tiny.unknown])
            ms = (time.perf_counter() - start) * 1e3
        if (after := counted(control, before)) is None:
            continue
        found = bench_serve.parts(before, after, ms)
        assert list(found) == ["decode", "embed", "search", "queue", "transport"]
        assert sum(found.values()) == pytest.approx(ms)
        if min(found.values()) > 0:  # on a busy machine Triton's clock runs on after its answer has left
            break
    assert min(found.values()) > 0, found
    assert found["queue"] > 1, "alone, a request waits for company: a millisecond at `embed`, half of one at `retrieve`"


def test_parts_are_means_of_requests() -> None:
    """The search took 8 ms, whatever `retrieve` counted behind its answer; two requests have half of all sums each."""
    some = {
        "preprocess": {"requests": 2, "whole": 4_000_000, "queue": 0, "compute": 4_000_000},
        "embed": {"requests": 2, "whole": 26_000_000, "queue": 6_000_000, "compute": 20_000_000},
        "retrieve": {"requests": 2, "whole": 11_000_000, "queue": 2_000_000, "compute": 9_000_000},
        "landmark": {"requests": 2, "whole": 40_000_000, "queue": 0, "compute": 0},
    }
    none = {model: dict.fromkeys(sums, 0) for model, sums in some.items()}
    wanted = {"decode": 2.0, "embed": 10.0, "search": 4.0, "queue": 4.0, "transport": 3.0}
    assert bench_serve.parts(none, some, client_ms=23.0) == pytest.approx(wanted)
