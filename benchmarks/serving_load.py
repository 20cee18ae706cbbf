"""The load of bench_serve.py: photos asked about as many clients would, and when each request was due and answered.

It runs in a process of its own, so that it does not hold the GIL of what it measures.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import httpx
import numpy as np
from numpy.typing import NDArray

from cairn.client import Answer, AsyncClient, Options, PhotoError, ServerUnavailable

TIMEOUT_S = 60.0
REFUSED = (ServerUnavailable, PhotoError, httpx.HTTPError)

Ask = Callable[[Sequence[bytes]], Awaitable[list[int | None]]]  # photos to landmark ids, none where there is none


class Target(NamedTuple):
    """What is asked, and how: a host:port over gRPC, or a URL over HTTP."""

    kind: Literal["grpc", "http"]
    address: str
    photos_a_request: int = 1


class Request(NamedTuple):
    """When it should have been sent, was sent and was answered, in seconds on one clock."""

    due: float
    sent: float
    done: float


@dataclass
class Log:
    """What came of a load."""

    photos_a_request: int
    seconds: float  # from the end of the warm-up to when no client sent any more
    answers: dict[int, int | None] = field(default_factory=dict)  # landmark ids by the photo's position
    requests: list[Request] = field(default_factory=list)  # answered ones, warm-up and all
    failures: Counter[str] = field(default_factory=Counter)  # reasons of those without an answer
    begin: float = 0.0  # when the warm-up ended
    processor_s: float = 0.0  # that the load itself took

    @property
    def photos_per_second(self) -> float:
        """Answered between the end of the warm-up and the end."""
        inside = sum(self.begin <= request.done <= self.begin + self.seconds for request in self.requests)
        return inside * self.photos_a_request / self.seconds

    @property
    def latencies(self) -> NDArray[np.float64]:
        """Seconds from when each request was due until its answer, float64 [requests due after the warm-up]."""
        return np.array([request.done - request.due for request in self.requests if request.due >= self.begin])

    @property
    def lateness(self) -> NDArray[np.float64]:
        """Seconds by which the load itself sent each request too late, float64 [requests due after the warm-up]."""
        return np.array([request.sent - request.due for request in self.requests if request.due >= self.begin])

    @property
    def mean_s(self) -> float:
        """Of all requests, those of the warm-up too, from sending to the answer."""
        return float(np.mean([request.done - request.sent for request in self.requests]))


_photos: list[bytes] = []  # of this process


def begin(photos: list[bytes], cores: set[int]) -> None:
    """What the process does first: keep the photos, and stay on these cores."""
    os.sched_setaffinity(0, cores)
    _photos[:] = photos


def run_closed(target: Target, clients: int, seconds: float) -> Log:
    """`clients` that each send the next request as soon as the last was answered."""
    return asyncio.run(_run(target, lambda ask: closed_loop(ask, _photos, clients, seconds, target.photos_a_request)))


def run_open(target: Target, rate: float, seconds: float, seed: int) -> Log:
    """Requests of one photo that come when they come, `rate` a second in the mean, whatever becomes of the others."""
    return asyncio.run(_run(target, lambda ask: open_loop(ask, _photos, rate, seconds, seed)))


def run_each(target: Target) -> Log:
    """Each photo once, a few at a time: for its answer."""
    return asyncio.run(_run(target, lambda ask: _each(ask, _photos)))


async def _run(target: Target, load: Callable[[Ask], Coroutine[Any, Any, Log]]) -> Log:
    connect = over_grpc if target.kind == "grpc" else over_http
    async with connect(target) as ask:
        before = time.process_time()
        log = await load(ask)
        log.processor_s = time.process_time() - before
    return log


@asynccontextmanager
async def over_grpc(target: Target) -> AsyncIterator[Ask]:
    """The project's own client. A request that was refused is not sent again: it counts as failed."""
    options = Options(attempts=1, photos_a_request=target.photos_a_request)
    async with AsyncClient(target.address, TIMEOUT_S, options) as client:

        async def ask(photos: Sequence[bytes]) -> list[int | None]:
            return [_landmark(outcome) for outcome in await client.query(photos)]

        yield ask


def _landmark(outcome: Answer | PhotoError) -> int | None:
    if isinstance(outcome, PhotoError):
        raise outcome
    return outcome.landmark_id


@asynccontextmanager
async def over_http(target: Target) -> AsyncIterator[Ask]:
    """An upload a photo, a kept connection for each that is under way."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=target.address, timeout=TIMEOUT_S, limits=limits, trust_env=False) as client:

        async def ask(photos: Sequence[bytes]) -> list[int | None]:
            (photo,) = photos
            response = await client.post("/landmark", files={"photo": ("photo", photo)})
            response.raise_for_status()
            return [response.json()["landmark_id"]]

        yield ask


async def closed_loop(ask: Ask, photos: Sequence[bytes], clients: int, seconds: float, a_request: int = 1) -> Log:
    """As run_closed; a fifth of `seconds`, two at most, is spent before as a warm-up."""
    warm = min(2.0, seconds / 5)
    log = Log(a_request, seconds, begin=time.perf_counter() + warm)
    end, numbers = log.begin + seconds, itertools.count()

    async def client() -> None:
        while (now := time.perf_counter()) < end:
            first = next(numbers) * a_request
            await _one(ask, photos, [(first + i) % len(photos) for i in range(a_request)], now, log)

    await asyncio.gather(*(client() for _ in range(clients)))
    return log


async def open_loop(ask: Ask, photos: Sequence[bytes], rate: float, seconds: float, seed: int) -> Log:
    """As run_open. Latency counts from when a request was due: what had to wait to be sent is not hidden."""
    log = Log(1, seconds, begin=time.perf_counter())
    async with asyncio.TaskGroup() as tasks:
        for number, after in enumerate(arrivals(rate, seconds, seed).tolist()):
            due = log.begin + after
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.create_task(_one(ask, photos, [number % len(photos)], due, log))
    return log


def arrivals(rate: float, seconds: float, seed: int) -> NDArray[np.float64]:
    """Times of a Poisson process, rising, from 0 to below `seconds`; the same for the same seed."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.exponential(1 / rate, size=int(2 * rate * seconds) + 100))
    return times[times < seconds]


async def _each(ask: Ask, photos: Sequence[bytes]) -> Log:
    log = Log(1, 0.0)
    numbers = iter(range(len(photos)))

    async def client() -> None:
        for number in numbers:
            await _one(ask, photos, [number], time.perf_counter(), log)

    await asyncio.gather(*(client() for _ in range(8)))
    return log


async def _one(ask: Ask, photos: Sequence[bytes], positions: Sequence[int], due: float, log: Log) -> None:
    sent = time.perf_counter()
    try:
        landmarks = await ask([photos[position] for position in positions])
    except REFUSED as error:
        log.failures[f"{type(error).__name__}: {error}"] += 1
        return
    log.requests.append(Request(due, sent, time.perf_counter()))
    log.answers.update(zip(positions, landmarks, strict=True))
