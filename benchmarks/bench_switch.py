"""Publishing new versions of the index while clients ask: failed requests, and how long anybody had to wait.

    python benchmarks/bench_switch.py [--repository triton_repo] [--photos build/clean] [--clients 4] [--switches 6]

Serves a copy of the exported repository. Each publication adds the photos of one more landmark, or goes back. Prints
requests, failures, and the usual and the longest time of one request, during the switches and between them, and the
longest time in which nobody got an answer.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from photos_made import first_photos

from cairn.client import Answer, Client
from cairn.client.main import main as cairn
from cairn.serving.server import LOOPBACK, default_server_env, free_ports, started


class Request(NamedTuple):
    """One question: when it was sent and answered, in seconds; by which version, none if it failed."""

    sent: float
    done: float
    version: int | None


def ask(address: str, photos: list[bytes], enough: threading.Event, log: list[Request]) -> None:
    """One photo after the other until it is enough."""
    with Client(address, 60.0) as client:
        for photo in itertools.cycle(photos):
            if enough.is_set():
                return
            sent = time.perf_counter()
            try:
                (got,) = client.query([photo])
                version = got.index_version if isinstance(got, Answer) else None
            except Exception as error:  # noqa: BLE001 - counted, whatever it is
                print(f"failed: {error}")
                version = None
            log.append(Request(sent, time.perf_counter(), version))


def publish(folder: Path, server: Path, *arguments: str) -> tuple[float, float]:
    """When it began and when it ended."""
    start = time.perf_counter()
    folders = ["--gallery", str(folder / "gallery"), "--repository", str(folder / "triton_repo")]
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        if cairn(["publish", *arguments, *folders, "--server-folder", str(server)]) != 0:
            raise SystemExit(told.getvalue())
    return start, time.perf_counter()


def add(folder: Path, number: int, photo: bytes) -> None:
    """A landmark more, with one photo."""
    path = folder / f"{number}.jpg"
    path.write_bytes(photo)
    folders = ["--gallery", str(folder / "gallery"), "--repository", str(folder / "triton_repo")]
    with contextlib.redirect_stdout(io.StringIO()):
        cairn(["add", f"landmark {number}", str(path), *folders])


def report(name: str, requests: list[Request]) -> None:
    """One line."""
    times = np.array([request.done - request.sent for request in requests]) * 1e3
    failed = sum(request.version is None for request in requests)
    print(
        f"{name:10}{len(requests):7} requests  {failed} failed  median {np.median(times):7.1f} ms  "
        f"p99 {np.percentile(times, 99):7.1f} ms  longest {times.max():7.1f} ms"
    )


def longest_silence(log: list[Request], spans: list[tuple[float, float]]) -> float:
    """Seconds without any answer, at most, that overlap one of the spans."""
    ends = sorted(request.done for request in log)
    gaps = itertools.pairwise(ends)
    return max(b - a for a, b in gaps if any(a <= end and start <= b for start, end in spans))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, default=Path("triton_repo"))
    parser.add_argument("--photos", type=Path, default=Path("build/clean"), help="with images.parquet and shards")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--switches", type=int, default=6)
    parser.add_argument("--pause", type=float, default=2.0, help="seconds between two switches")
    args = parser.parse_args()
    photos = first_photos(args.photos, 64)
    with tempfile.TemporaryDirectory() as name:
        folder, serve = Path(name), Path(name) / "serve"
        serve.mkdir()
        shutil.copytree(args.repository, folder / "triton_repo")
        with started(folder / "triton_repo", default_server_env(), serve, free_ports(), LOOPBACK) as server:
            enough, log, switches = threading.Event(), list[Request](), []
            clients = [
                threading.Thread(target=ask, args=(server.address, photos[n :: args.clients], enough, log))
                for n in range(args.clients)
            ]
            for client in clients:
                client.start()
            for number in range(args.switches):
                time.sleep(args.pause)
                add(folder, number, photos[number % len(photos)])
                switches.append(publish(folder, serve, *(["--back"] if number % 3 == 2 else [])))
            time.sleep(args.pause)
            enough.set()
            for client in clients:
                client.join()
    during = {each for each in log if any(start <= each.done and each.sent <= end for start, end in switches)}
    report("switching", [each for each in log if each in during])
    report("between", [each for each in log if each not in during])
    print(f"longest time without an answer to anybody, in a switch: {longest_silence(log, switches) * 1e3:.1f} ms")
    print(f"versions that answered: {sorted({each.version for each in log if each.version is not None})}")


if __name__ == "__main__":
    main()
