"""The real server over gRPC, against the same work in one process and against FastAPI with eager torch.

    python benchmarks/bench_serve.py [--backbone resnet18] [--photos build/clean] [--threads 2] [--seconds 20]

Prints, from one run with the ways taken in turn: photos a second from encoded photo to landmark, and their ratios;
latency with 1, 4 and 16 clients that wait for their answers, and at 80 % of the full load, where photos come when they
come; and what each part of an answer costs, also as a picture. All ways must answer the same. `--profile` prints
instead where the one process spends its time. Figures and picture are kept in the folder that --into names.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import httpx
import numpy as np
import serving_in_process
import serving_load
from costs import costs
from numpy.typing import NDArray
from photos_made import first_photos
from serving_in_process import Way
from serving_load import Log, Target
from tritonclient import grpc

from cairn.client.given import found_in
from cairn.client.options import PHOTOS_A_REQUEST
from cairn.files import write_json
from cairn.photos import DecodeError
from cairn.progress import progress
from cairn.serving.command import LOOPBACK
from cairn.serving.control import Control, read
from cairn.serving.runtime import ServerError
from cairn.serving.server import default_photos, default_server_env, free_ports, started
from cairn.serving.threads import VARIABLE as THREADS_VARIABLE

ROOT = Path(__file__).parents[1]
MANY = PHOTOS_A_REQUEST  # where a client has many photos, as `cairn query` does
GRPC, GRPC_MANY, HTTP, ONE = "gRPC", f"gRPC, {MANY} photos a request", "FastAPI, eager torch", "one process"
BATCHES = (1, 8, 16, 32, 64)
CLIENTS = (1, 4, 16)
OPEN_SHARE = 0.8  # of the full load
PERCENTILES = (50, 95, 99)
GOALS = {ONE: 0.9, HTTP: 2.0}  # of the server's photos a second to theirs
SAME = 0.99  # of the answers, at least: rounding may tip a score that lies at the threshold
MODELS = ("preprocess", "embed", "retrieve")  # of the ensemble
ENSEMBLE = "landmark"
MANIFEST = "images.parquet"
START_S = 120.0
TICKS = os.sysconf("SC_CLK_TCK")  # of /proc, a second

Call = Callable[..., Any]  # a function and its arguments, run in another process
Spent = Mapping[str, Mapping[str, int]]  # by model: requests answered, and nanoseconds by what they went to


class BenchError(RuntimeError):
    """A run whose figures would be worth nothing."""


class Service(NamedTuple):
    """What is asked, and the number of the process group that answers."""

    target: Target
    group: int


class Measured(NamedTuple):
    """Photos a second, and milliseconds of processor that each took, by who took them."""

    photos_per_second: float
    processor_ms: dict[str, float]


class Shape(NamedTuple):
    """How the FastAPI service uses its threads."""

    calls: int  # worked on at once
    threads_a_call: int

    def __str__(self) -> str:
        return f"{self.calls} at once, torch with {self.threads_a_call} threads"


def read_photos(folder: Path, count: int) -> list[bytes]:
    """The first photos of a manifest with its shards, or of a folder of image files. Raises BenchError without one."""
    if (folder / MANIFEST).exists():
        return first_photos(folder, count)
    photos = [path.read_bytes() for path in found_in(folder)[:count] if path.is_file()]
    if not photos:
        raise BenchError(f"{folder}: no {MANIFEST} and no image files; name a folder of photos with --photos")
    return photos


@contextmanager
def process(begin: Callable[..., None], *arguments: object) -> Iterator[Call]:
    """A process of its own that has run `begin`; gives what runs a function in it. It is ended with the block."""
    with get_context("spawn").Pool(1, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:

        def call(function: Callable[..., Any], *given: object) -> Any:
            return pool.apply_async(function, given).get()

        call(begin, *arguments)
        yield call


@contextmanager
def fastapi(args: argparse.Namespace, shape: Shape) -> Iterator[Service]:
    """The FastAPI service while the block runs. Raises BenchError if it does not start."""
    port = free_ports().http
    script, threads = str(ROOT / "benchmarks" / "fastapi_service.py"), str(shape.threads_a_call)
    command = [sys.executable, script, "--port", str(port), "--calls", str(shape.calls), "--threads-a-call", threads]
    command += ["--model", str(args.model), "--repository", str(args.repository)]
    service = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": threads}, start_new_session=True)
    try:
        url, end = f"http://{LOOPBACK}:{port}", time.monotonic() + START_S
        while not _ready(url):
            if service.poll() is not None or time.monotonic() > end:
                raise BenchError(f"the FastAPI service did not start (status {service.poll()})")
            time.sleep(0.2)
        yield Service(Target("http", url), service.pid)
    finally:
        service.terminate()
        with suppress(subprocess.TimeoutExpired):
            service.wait(10)
        service.kill()
        service.wait()


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def whole(log: Log) -> Log:
    """The log itself. Raises BenchError if a request failed: the others were the faster for it."""
    if log.failures:
        (reason, _), failed = log.failures.most_common(1)[0], log.failures.total()
        raise BenchError(f"{failed} of {failed + len(log.requests)} requests failed; most often: {reason}")
    return log


def processor_s(group: int) -> dict[str, float]:
    """Seconds of processor that the processes of a group have taken: by the model that it runs, or `service`."""
    found: dict[str, float] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[2]) == group:
                named = re.search(rb"/(\w+)/\d+/model\.py", (folder / "cmdline").read_bytes())
                name = "service" if named is None else named[1].decode()
                taken = (int(fields[11]) + int(fields[12])) / TICKS  # in user mode and in the kernel
                found[name] = found.get(name, 0.0) + taken
    return found


# which way of each is the best


def best_way(in_process: Call, seconds: float) -> Way:
    """Of the one process: how many photos at once, and whether it prepares ahead."""
    ways = [Way(*each) for each in product(BATCHES, (False, True))]
    speeds = {way: in_process(serving_in_process.run, way, seconds) for way in progress(ways, ONE, unit="way")}
    return max(ways, key=lambda way: speeds[way].photos_per_second)


def best_shape(args: argparse.Namespace, load: Call, seconds: float) -> Shape:
    """Of the FastAPI service: many calls of a thread each, or one with all threads."""
    shapes = list(dict.fromkeys([Shape(1, args.threads), Shape(args.threads, 1)]))
    rates = {}
    for shape in progress(shapes, HTTP, unit="way"):
        with fastapi(args, shape) as service:
            rates[shape] = measured(load, service, args.clients, seconds).photos_per_second
    return max(shapes, key=rates.__getitem__)


# 1. throughput


def check_answers(in_process: Call, load: Call, services: Mapping[str, Service], batch: int) -> dict[str, float]:
    """The share of the photos that each service answers as the one process does. Raises BenchError where it is low."""
    wanted = in_process(serving_in_process.run_each, batch)
    shares = {}
    for name, service in services.items():
        answers = whole(load(serving_load.run_each, service.target)).answers
        other = [position for position, landmark in enumerate(wanted) if answers[position] != landmark]
        shares[name] = 1 - len(other) / len(wanted)
        if shares[name] < SAME:
            raise BenchError(
                f"{name} answers {len(other)} of {len(wanted)} photos otherwise than {ONE}, the first: photo "
                f"{other[0]}, {answers[other[0]]} and not {wanted[other[0]]}; are --model and --repository of one run?"
            )
    return shares


def measured(load: Call, service: Service, clients: int, seconds: float) -> Measured:
    """A service at full load; of several photos a request, with a quarter of the clients."""
    before = processor_s(service.group)
    several = service.target.photos_a_request > 1
    log = whole(load(serving_load.run_closed, service.target, max(4, clients // 4) if several else clients, seconds))
    now = processor_s(service.group)
    taken = {**{name: now[name] - before[name] for name in now if now[name] > before[name]}, "load": log.processor_s}
    photos = len(log.requests) * log.photos_a_request
    return Measured(log.photos_per_second, {name: 1e3 * value / photos for name, value in taken.items()})


def measured_in_process(in_process: Call, way: Way, seconds: float) -> Measured:
    """The one process, as `measured`."""
    speed = in_process(serving_in_process.run, way, seconds)
    return Measured(speed.photos_per_second, {"process": speed.processor_ms})


def throughput(ways: Mapping[str, Callable[[], Measured]], rounds: int) -> dict[str, list[Measured]]:
    """What came of each way, round by round, taken in turn."""
    found: dict[str, list[Measured]] = {name: [] for name in ways}
    for _, name in progress([*product(range(rounds), ways)], "throughput", unit="measurement"):
        found[name].append(ways[name]())
    return found


def print_throughput(found: Mapping[str, Sequence[Measured]]) -> dict[str, Any]:
    """A line a way, with the processor time of its parts, and the ratios of the server to the others; gives figures."""
    rates = {name: [each.photos_per_second for each in rounds] for name, rounds in found.items()}
    times = {
        name: {part: median(each.processor_ms.get(part, 0.0) for each in rounds) for part in rounds[0].processor_ms}
        for name, rounds in found.items()
    }
    for name, parts_ms in times.items():
        print(f"  {name:30}{median(rates[name]):9.1f} photos/s{sum(parts_ms.values()):9.2f} ms of processor a photo:")
        print(" " * 34 + ", ".join(f"{part} {ms:.2f}" for part, ms in parts_ms.items()))
    for name, other in product([name for name in rates if name not in GOALS], GOALS):
        each = [mine / theirs for mine, theirs in zip(rates[name], rates[other], strict=True)]
        ratio = median(rates[name]) / median(rates[other])
        said = f"goal {GOALS[other]}: {'reached' if ratio >= GOALS[other] else 'missed'}"
        work = sum(times[other].values()) / sum(times[name].values())
        spread = f"rounds {min(each):.2f} to {max(each):.2f}; by processor time {work:.2f}"
        print(f"  {name} to {other}: {ratio:.2f} ({spread}), {said}")
    return {"photos_per_second": rates, "processor_ms": times}


# 2. and 3., latency and what it is made of


def milliseconds(seconds: NDArray[np.float64]) -> dict[str, float]:
    """Percentiles, in milliseconds."""
    values = np.percentile(seconds, PERCENTILES) * 1e3
    return {f"p{p}": float(value) for p, value in zip(PERCENTILES, values, strict=True)}


def latency(log: Log) -> dict[str, float]:
    """Percentiles in milliseconds; `late`, how late the load itself sent one of a hundred; photos a second."""
    late = milliseconds(log.lateness)["p99"]
    return {**milliseconds(log.latencies), "late": late, "photos/s": log.photos_per_second}


def spent(control: Control) -> Spent:
    """What Triton's statistics say since its start."""
    with grpc.InferenceServerClient(control.address) as client:
        models = client.get_inference_statistics(headers=control.headers).model_stats
    found: dict[str, dict[str, int]] = {}
    for model in models:
        stats = model.inference_stats
        sums = found.setdefault(model.name, dict.fromkeys(("requests", "whole", "queue", "compute"), 0))
        sums["requests"] += stats.success.count
        sums["whole"] += stats.success.ns
        sums["queue"] += stats.queue.ns
        sums["compute"] += stats.compute_input.ns + stats.compute_infer.ns + stats.compute_output.ns
    return found


def parts(before: Spent, after: Spent, client_ms: float) -> dict[str, float]:
    """Milliseconds of a request in the mean, by what they went to; together `client_ms`, what the client saw.

    `transport` is all that is outside the server. Triton's count of a model's work goes on while that tidies up behind
    its answer; so `search`, the last, is what the whole in the server leaves, with handing over from model to model.
    """
    requests = after[ENSEMBLE]["requests"] - before[ENSEMBLE]["requests"]

    def ms(model: str, what: str) -> float:
        return (after[model][what] - before[model][what]) / requests / 1e6

    found = {"decode": ms("preprocess", "compute"), "embed": ms("embed", "compute")}
    queue, in_server = sum(ms(model, "queue") for model in MODELS), ms(ENSEMBLE, "whole")
    search = in_server - queue - sum(found.values())
    return {**found, "search": search, "queue": queue, "transport": client_ms - in_server}


def latencies(args: argparse.Namespace, load: Call, target: Target, control: Control, full: float) -> dict[str, Any]:
    """Of a server that takes `full` photos a second at most: percentiles, and the parts of a request, by load."""
    found: dict[str, Any] = {"latency_ms": {}, "parts_ms": {}}
    for clients in progress(CLIENTS, "latency", unit="measurement"):
        name, before = f"{clients} client{'s' * (clients > 1)}", spent(control)
        log = whole(load(serving_load.run_closed, target, clients, args.seconds))
        found["latency_ms"][name] = latency(log)
        found["parts_ms"][name] = parts(before, spent(control), log.mean_s * 1e3)
    rate = OPEN_SHARE * full
    log = whole(load(serving_load.run_open, target, rate, args.seconds, args.seed))
    found["latency_ms"][f"{OPEN_SHARE:.0%}: {rate:.1f} a second"] = latency(log)
    return found


def print_table(title: str, cases: Mapping[str, Mapping[str, float]]) -> None:
    """A line a case, a column a value."""
    print(f"\n{title:32}" + "".join(f"{name:>11}" for name in next(iter(cases.values()))))
    for case, values in cases.items():
        print(f"  {case:30}" + "".join(f"{value:11.2f}" for value in values.values()))


# all of it


def bench(args: argparse.Namespace, photos: list[bytes], cores: set[int], folder: Path) -> None:
    """Measure, print and write; the server runs from `folder`."""
    trial = max(0.5, args.seconds / 4)
    with ExitStack() as stack:
        enter = stack.enter_context
        server = enter(started(args.repository, default_server_env(), folder, free_ports(), LOOPBACK))
        load = enter(process(serving_load.begin, photos, cores))
        in_process = enter(process(serving_in_process.begin, photos, args.repository))
        way, shape = best_way(in_process, trial), best_shape(args, load, trial)
        print(f"{ONE}: {way}; {HTTP}: {shape}")
        services = {
            GRPC: Service(Target("grpc", server.address), server.process.pid),
            GRPC_MANY: Service(Target("grpc", server.address, MANY), server.process.pid),
            HTTP: enter(fastapi(args, shape)),
        }
        same = check_answers(in_process, load, services, way.batch)
        print(f"same landmark as {ONE}: " + ", ".join(f"{name} {share:.4f}" for name, share in same.items()))
        ways = {ONE: partial(measured_in_process, in_process, way, args.seconds)}
        ways |= {name: partial(measured, load, each, args.clients, args.seconds) for name, each in services.items()}
        print(f"\nthroughput, {args.clients} clients, median of {args.rounds} rounds of {args.seconds:g} s", flush=True)
        figures = {"same": same, **print_throughput(throughput(ways, args.rounds))}
        full = median(figures["photos_per_second"][GRPC])
        figures |= latencies(args, load, services[GRPC].target, read(server.folder), full)
    print_table(f"latency of {GRPC}, ms", figures["latency_ms"])
    print_table("a request's parts in the mean, ms", figures["parts_ms"])
    args.into.mkdir(parents=True, exist_ok=True)
    costs(figures["parts_ms"], args.into / "serve_costs.png", "Where a request's time goes", "ms a request")
    write_json(args.into / "serve.json", {"photos": len(photos), "threads": args.threads, **figures})
    print(f"{args.into}: serve.json, serve_costs.png")


def profile(args: argparse.Namespace, photos: list[bytes]) -> None:
    """Print where the one process spends its time."""
    with process(serving_in_process.begin, photos, args.repository) as in_process:
        way = best_way(in_process, max(0.5, args.seconds / 8))
        rate, _ = in_process(serving_in_process.run, way, args.seconds)
        found = in_process(serving_in_process.run_profile, way.batch)
    print(f"{ONE}, {way}, {args.threads} threads: {rate:.1f} photos/s, {1e3 / rate:.3f} ms a photo; of that")
    for name, ms in found.items():
        print(f"  {name:24}{ms:9.3f} ms a photo")
    print("decode and resize are of one thread; the network uses all, the rest what its libraries use")


class Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """The text as it is written, and the defaults."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    add = made.add_argument
    add("--repository", type=Path, default=Path("triton_repo"), help="what the server serves")
    add("--model", type=Path, default=Path("build/model"), help="the network of the same run, for FastAPI")
    add("--backbone", help="serve an untrained network of timm in its place: any name timm knows, or several: A+B")
    add("--photos", type=Path, default=default_photos(), help="images.parquet with shards, or a folder of image files")
    add("--count", type=int, default=512, help="photos at most; they are held in memory, and asked again and again")
    add("--threads", type=int, default=2, help="of each way, and of each of the server's models")
    add("--clients", type=int, default=32, help="at once, at full load")
    add("--seconds", type=float, default=20.0, help="of each measurement")
    add("--rounds", type=int, default=3, help="of the throughput of all ways")
    add("--load-cores", type=int, default=0, help="cores that the load has to itself; 0: it shares all of them")
    add("--seed", type=int, default=0, help="of the open load's arrivals")
    add("--into", type=Path, default=Path("build/benchmarks"), help="folder for serve.json and serve_costs.png")
    add("--profile", action="store_true", help="print where the one process spends its time, and no more")
    return made


def parted(load_cores: int) -> set[int]:
    """The load's cores. This process keeps the others, if there are any, and all that it starts with it."""
    cores = sorted(os.sched_getaffinity(0))
    if not 0 <= load_cores < len(cores):
        raise BenchError(f"--load-cores {load_cores}: from 0 to {len(cores) - 1}, of this machine's {len(cores)} cores")
    if load_cores == 0:
        print(f"The load shares {len(cores)} cores with what it measures: that part of the time is no server's.")
        return set(cores)
    os.sched_setaffinity(0, cores[:-load_cores])
    return set(cores[-load_cores:])


def main() -> int:
    """Measure and print. Status 1 if there is nothing to be said, 130 if it was interrupted."""
    args = parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ[THREADS_VARIABLE] = str(args.threads)
    try:
        if args.photos is None:
            raise BenchError("no build/clean; run `make repro`, or name a folder of photos with --photos")
        photos = read_photos(args.photos, args.count)
        with tempfile.TemporaryDirectory(prefix="cairn-bench-") as folder:
            if args.backbone is not None:
                from serving_made import make  # torch stays out of the processes that need none

                print(f"exporting an untrained {args.backbone}", flush=True)
                source, params = args.repository, ROOT / "params.yaml"
                args.repository, args.model = make(Path(folder), source, params, args.backbone, photos)
            if args.profile:
                profile(args, photos)
            else:
                bench(args, photos, parted(args.load_cores), Path(folder))
    except (BenchError, DecodeError, ServerError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
