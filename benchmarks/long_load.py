"""A real server under a long mixed load, while its index is switched and its processes are killed.

    python benchmarks/long_load.py [--minutes 20] [--share .8] [--kills 3] [--seed 0]

Photos come when they come (Poisson), at a share of the full load that a first trial measures; three of ten requests are
wrong ones of fuzz_server.py. Every minute a new version of the index is published, with a landmark more or as it was
before. In the first third a Python process of the server is killed now and then, each model's in turn; memory is looked
at from 60 % of the time on, when new processes have seen as much as they will remember.

Prints what requests got, how long after each kill they failed, and memory. Exits with 1 if a good
photo was answered otherwise than by its landmark, or failed without a kill within RECOVERY_S before it; if a wrong
request got what no request should get, or no reason, or the server died; or if memory grew by over 2 %, or was looked
at too rarely to say.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
from bench_switch import add, publish
from fuzz_server import INFER, TIMEOUT_S, WINDOW, Wrong, corpus, grown, memory, processes, unfit, wrong
from photos_made import first_photos
from PIL import Image
from serving_load import arrivals

from cairn.client import Answer, AsyncClient, Client, Options, ServerUnavailable
from cairn.progress import progress
from cairn.serving.command import LOOPBACK
from cairn.serving.server import Server, default_server_env, free_ports, started

BAD_SHARE = 0.3
LOOK_EVERY_S = 5.0  # less where the time is short
RECOVERY_S = 30.0  # within which a killed process must be back
# What a request gets whose model has just lost its process.
AWAY = {grpc.StatusCode.INTERNAL, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE}
TRIAL_S, CLIENTS = 10.0, 16  # of the full load
KILLED_BY, LOOKED_FROM = 0.3, 0.6  # shares of the time
SOME_PHOTOS, BAD_MODELS = 256, {"landmark", "preprocess", "embed", "retrieve"}


@dataclass
class Seen:
    """What came of the load, by the clock of time.perf_counter."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[float, float, str]] = field(default_factory=list)  # good ones: sent, ended, why
    faults: list[str] = field(default_factory=list)
    kills: list[tuple[float, str]] = field(default_factory=list)  # when, which model's process
    looks: list[dict[str, float]] = field(default_factory=list)


def known(address: str, photos: Sequence[bytes]) -> list[tuple[bytes, int]]:
    """The photos that are of a landmark by an idle server, and of which."""
    with Client(address, TIMEOUT_S) as client:
        found = [each.landmark_id if isinstance(each, Answer) else None for each in client.query(photos)]
    return [(photo, landmark) for photo, landmark in zip(photos, found, strict=True) if landmark is not None]


async def full_rate(address: str, photos: Sequence[bytes]) -> float:
    """Photos a second that CLIENTS get answered who wait for each answer."""
    end, done = time.perf_counter() + TRIAL_S, 0
    async with AsyncClient(address, TIMEOUT_S) as client:

        async def one(number: int) -> None:
            nonlocal done
            while time.perf_counter() < end:
                await client.query([photos[number % len(photos)]])
                number, done = number + CLIENTS, done + 1

        await asyncio.gather(*map(one, range(CLIENTS)))
    return done / TRIAL_S


async def good(client: AsyncClient, photo: bytes, landmark: int, seen: Seen) -> None:
    """Ask about a photo whose answer is known. What the client tries again by itself is no failure."""
    sent = time.perf_counter()
    try:
        (got,) = await client.query([photo])
    except ServerUnavailable as error:
        seen.failures.append((sent, time.perf_counter(), f"unavailable: {error}"))
        return
    if not isinstance(got, Answer):
        seen.failures.append((sent, time.perf_counter(), f"refused: {got}"))
    elif got.landmark_id != landmark:
        seen.faults.append(f"landmark {landmark} was answered as {got.landmark_id} by version {got.index_version}")
    else:
        seen.outcomes["good photo: answered right"] += 1


async def bad(call: grpc.aio.UnaryUnaryMultiCallable, made: Wrong, number: int, seen: Seen) -> None:
    """Send a wrong request."""
    sent = time.perf_counter()
    try:
        await call(made.message, timeout=TIMEOUT_S)
        status, reason = grpc.StatusCode.OK, ""
    except grpc.aio.AioRpcError as error:
        status, reason = error.code(), error.details() or ""
    seen.outcomes[f"{made.kind}: {status.name}"] += 1
    excused = status in AWAY and reason.strip() and _by_a_kill(seen, sent, time.perf_counter())
    if unfit(made, status, reason) and not excused:
        seen.faults.append(f"request {number} ({made.kind}) got {status.name}: {reason}")


def _by_a_kill(seen: Seen, sent: float, ended: float) -> bool:
    """Whether a process was killed while the request was under way, or shortly before."""
    return any(sent - RECOVERY_S <= when <= ended for when, _ in seen.kills)


async def send(server: Server, args: argparse.Namespace, photos: list[bytes], rate: float, seen: Seen) -> None:
    """The load itself."""
    answered, odd = known(server.address, photos), corpus(np.random.default_rng(args.seed))
    rng, begin = np.random.default_rng([args.seed, 1]), time.perf_counter()
    times = arrivals(rate, args.minutes * 60, args.seed)
    async with (
        AsyncClient(server.address, TIMEOUT_S, Options(attempts=args.attempts)) as client,
        grpc.aio.insecure_channel(server.address, [("grpc.max_send_message_length", -1)]) as channel,
        asyncio.TaskGroup() as tasks,
    ):
        call = channel.unary_unary(INFER)
        for number, after in enumerate(progress(times.tolist(), "load", unit="request")):
            await asyncio.sleep(max(0.0, begin + after - time.perf_counter()))
            if rng.random() < BAD_SHARE:
                tasks.create_task(bad(call, wrong(number, args.seed, odd, BAD_MODELS), number, seen))
            else:
                photo, landmark = answered[int(rng.integers(len(answered)))]
                tasks.create_task(good(client, photo, landmark, seen))


def switched(server: Server, folder: Path, seen: Seen, how: list[str]) -> None:
    """Publish. A server that has just lost a process refuses, and the version is taken back."""
    began = time.perf_counter()
    try:
        publish(folder, server.folder, *how)
        seen.outcomes["new version of the index: served"] += 1
    except SystemExit as refused:
        seen.outcomes["new version of the index: refused after a kill"] += 1
        if not _by_a_kill(seen, began, time.perf_counter()):
            seen.faults.append(f"publish: {refused}")


def like_no_photo(rng: np.random.Generator) -> bytes:
    """Noise, which makes a landmark that no photo of the load is of."""
    kept = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)).save(kept, "PNG")
    return kept.getvalue()


def disturb(server: Server, folder: Path, args: argparse.Namespace, seen: Seen) -> None:
    """Beside the load: switch the index, kill processes, look at memory."""
    begin, whole = time.perf_counter(), set(processes(server).values())
    rng, whole_s = np.random.default_rng([args.seed, 2]), args.minutes * 60
    switch, kills, numbers = args.switch_every, args.kills, 0
    look_every = min(LOOK_EVERY_S, whole_s * (1 - LOOKED_FROM) / (3 * WINDOW))
    while (now := time.perf_counter() - begin) < whole_s:
        if now >= switch:
            add(folder, numbers, like_no_photo(rng))
            switched(server, folder, seen, ["--back"] if numbers % 3 == 2 else [])
            numbers, switch = numbers + 1, switch + args.switch_every
        if len(seen.kills) < kills and now >= whole_s * KILLED_BY * (len(seen.kills) + 1) / kills:
            running = {name: pid for pid, name in processes(server).items() if name in BAD_MODELS}
            name = sorted(running)[len(seen.kills) % len(running)]
            seen.kills.append((time.perf_counter(), name))
            os.kill(running[name], signal.SIGKILL)
        if server.process.poll() is not None:
            seen.faults.append("the server died")
            return
        if now >= whole_s * LOOKED_FROM and set((now_running := processes(server)).values()) == whole:
            with suppress(ProcessLookupError, FileNotFoundError):  # it ended between the listing and the look
                seen.looks.append(memory(now_running))
        time.sleep(look_every)


def report(seen: Seen) -> list[str]:
    """Print what came. Returns what is wrong."""
    print("\n".join(f"{count:8}  {what}" for what, count in sorted(seen.outcomes.items())))
    print(f"{len(seen.failures):8}  good photo: failed")
    for when, name in seen.kills:
        failed = [(sent, end) for sent, end, _ in seen.failures if sent - RECOVERY_S <= when <= end]
        last = max((sent - when for sent, _ in failed), default=0.0)
        longest = max((end - sent for sent, end in failed), default=0.0)
        print(
            f"{name} killed: {len(failed)} good photos failed, the last one sent {last:.1f} s after it; "
            f"they waited {longest:.1f} s at most"
        )
    reasons: dict[str, list[float]] = defaultdict(list)
    for sent, end, why in seen.failures:
        reasons[re.sub(r" \(request \S+\)|\d+\.\d+\.\d+\.\d+:\d+: ", "", why)].append(end - sent)
    for reason, waits in sorted(reasons.items(), key=lambda item: -len(item[1]))[:10]:
        print(f"{len(waits):8}  {reason[:160]}; waited {max(waits):.1f} s at most")
    faults = [f"failed without a kill: {why}" for sent, end, why in seen.failures if not _by_a_kill(seen, sent, end)]
    if len(seen.looks) < 2 * WINDOW:
        faults.append(f"memory was looked at {len(seen.looks)} times; {2 * WINDOW} are needed: give it more --minutes")
    return seen.faults + faults + grown(seen.looks)


async def loaded(server: Server, folder: Path, args: argparse.Namespace, photos: list[bytes], seen: Seen) -> None:
    """The load and what disturbs it, side by side."""
    full = await full_rate(server.address, photos)
    print(f"full load {full:.1f} photos a second; {args.share:.0%} of it for {args.minutes:g} minutes", flush=True)
    disturbed = asyncio.to_thread(disturb, server, folder, args, seen)
    await asyncio.gather(send(server, args, photos, args.share * full, seen), disturbed)


def main() -> int:
    """Start a server on a copy of the repository, load it, say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--share", type=float, default=0.8, help="of the full load")
    parser.add_argument("--switch-every", type=float, default=60.0, help="seconds")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--attempts", type=int, default=1, help="of the client at a photo before it fails")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repository", type=Path, default=Path("triton_repo"))
    parser.add_argument("--photos", type=Path, default=Path("build/clean"), help="with images.parquet and shards")
    args = parser.parse_args()
    photos, seen = first_photos(args.photos, SOME_PHOTOS), Seen()
    with tempfile.TemporaryDirectory(prefix="cairn-load-") as name:
        folder, serve = Path(name), Path(name) / "serve"
        serve.mkdir()
        shutil.copytree(args.repository, folder / "triton_repo")
        with started(folder / "triton_repo", default_server_env(), serve, free_ports(), LOOPBACK) as server:
            asyncio.run(loaded(server, folder, args, photos, seen))
    faults = report(seen)
    print("\n".join(faults[:50]) or "nothing but clear errors, and the server is as it was")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
