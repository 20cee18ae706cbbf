"""Starting the real Triton server on this machine, without a container, and stopping it with all its processes."""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import NamedTuple

from cairn.serving.command import (
    EVERYWHERE,
    EXIT_S,
    LOOPBACK,
    CommandError,
    Ports,
    Serving,
    Tls,
    add_options,
    flags,
    serving_of,
)
from cairn.serving.command import environment as command_environment
from cairn.serving.control import FILE as CONTROL_FILE
from cairn.serving.control import HEADER, Control, ControlError, new_key, write
from cairn.serving.plans import PlanError
from cairn.serving.runtime import (
    Layout,
    ServerEnv,
    ServerError,
    check_backend,
    check_serving,
    find_server_env,
    lay_out,
    shell_safe,
)
from cairn.serving.threads import VARIABLE as THREADS_VARIABLE
from cairn.serving.watchdog import api_of, watched

ROOT = Path(__file__).resolve().parents[2]
ENV_VARIABLE = "CAIRN_SERVER_ENV"
STARTUP_S = 600.0
SHARED_MEMORY = Path("/dev/shm")
LIBC = ctypes.CDLL(None)  # opened here: the forked child should do as little as it can
PR_SET_PDEATHSIG = 1


class LockTimeout(ServerError):
    """Triton ended itself: on a busy machine a model's process held a lock of theirs for 10 s. Another start helps."""


class Server(NamedTuple):
    """A server that is ready."""

    process: subprocess.Popen[bytes]
    address: str  # host:port of gRPC
    log: Path
    metrics: str  # URL of what Prometheus reads
    folder: Path  # holds control.json, which cairn.serving.control reads


def default_server_env() -> Path:
    """Where the server's virtual environment is: CAIRN_SERVER_ENV, or `.venv-server` in the project's root."""
    return Path(os.environ.get(ENV_VARIABLE) or ROOT / ".venv-server")


def default_photos() -> Path | None:
    """The folder that the shards of the last run's index lie in, if it is there."""
    folder = ROOT / "build" / "clean"
    return folder if folder.is_dir() else None


@contextmanager
def running_server(repository: Path, env: Path, photos: Path | None = None) -> Iterator[str]:
    """Serve `repository` on free loopback ports while the block runs; gives the gRPC address, host:port.

    `env` is the server's virtual environment. Raises ServerError if something is missing or the server does not
    become ready within STARTUP_S seconds.
    """
    with (
        tempfile.TemporaryDirectory(prefix="cairn-serve-") as folder,
        started(repository, env, Path(folder), free_ports(), LOOPBACK, photos=photos) as server,
    ):
        yield server.address


def free_ports() -> Ports:
    """Three loopback ports that nothing listens on now."""
    sockets = [socket.create_server((LOOPBACK, 0)) for _ in range(3)]
    ports = Ports(*(s.getsockname()[1] for s in sockets))
    for each in sockets:
        each.close()
    return ports


@contextmanager
def started(
    repository: Path,
    env: Path,
    folder: Path,
    ports: Ports,
    host: str,
    *,
    photos: Path | None = None,
    tls: Tls | None = None,
    verbose: int = 0,
) -> Iterator[Server]:
    """Serve `repository` while the block runs, from `folder`, which keeps the log and, until the end, control.json.

    Raises ServerError as running_server does, and if a port is taken; ControlError if CAIRN_CONTROL_KEY is no key.
    """
    serving = Serving(repository.absolute(), new_key(), host=host, ports=ports, photos=photos, tls=tls, verbose=verbose)
    with serve(serving, env, folder, STARTUP_S) as server:
        yield server


@contextmanager
def serve(serving: Serving, env: Path, folder: Path, timeout_s: float) -> Iterator[Server]:
    """As `started`, with all that can be said of how. Raises PlanError for a TensorRT plan that belongs elsewhere."""
    found = _checked(serving, env)
    folder.mkdir(parents=True, exist_ok=True)
    with shell_safe(serving.repository, folder) as (repository, plain):
        layout = lay_out(found, plain)
        here = serving._replace(repository=repository)
        with ExitStack() as stack:
            try:
                server = stack.enter_context(_served(here, found, layout, folder, timeout_s))
            except LockTimeout as error:
                _tell(f"{error}\nThis comes of a busy machine; starting it once more")
                server = stack.enter_context(_served(here, found, layout, folder, timeout_s))
            yield server


@contextmanager
def _served(serving: Serving, found: ServerEnv, layout: Layout, folder: Path, timeout_s: float) -> Iterator[Server]:
    (folder / CONTROL_FILE).unlink(missing_ok=True)  # of a launcher that was killed
    log = folder / "triton.log"
    shared = f"cairn_{os.getpid()}_{secrets.token_hex(4)}"
    with log.open("wb") as file:
        process = subprocess.Popen(
            _command(layout, serving, shared),
            env=_environment(found, serving),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - makes one system call
        )
    address = f"{_reachable(serving.host)}:{serving.ports.grpc}"
    certificate = None if serving.tls is None else str(serving.tls.authority or serving.tls.certificate)
    try:
        _wait_until_ready(process, _reachable(serving.http_host), serving.ports.http, log, timeout_s)
        write(folder, Control(address, HEADER, serving.key, certificate))
        metrics = f"http://{_reachable(serving.metrics_host)}:{serving.ports.metrics}/metrics"
        with watched(process.pid, api_of(serving), _tell):
            yield Server(process, address, log, metrics, folder)
    finally:
        (folder / CONTROL_FILE).unlink(missing_ok=True)
        _stop(process)
        for left in SHARED_MEMORY.glob(f"{shared}*"):
            left.unlink(missing_ok=True)


def _checked(serving: Serving, env: Path) -> ServerEnv:
    """The server's environment, once nothing that can be seen beforehand keeps the server from starting."""
    found = find_server_env(env)
    check_backend(found, serving.embedder)
    check_serving(serving)
    hosts = (serving.host, serving.http_host, serving.metrics_host)
    for (name, port), host in zip(serving.ports._asdict().items(), hosts, strict=True):
        _check_port(name, host, port)
    return found


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _reachable(host: str) -> str:
    return LOOPBACK if host == EVERYWHERE else host


def _end_with_parent() -> None:
    """Have the kernel stop the server if the launcher is killed; the server then ends its models' processes."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _check_port(name: str, host: str, port: int) -> None:
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise ServerError(f"{host}:{port}: cannot listen there ({error.strerror}); pass --{name}-port") from error


def _command(layout: Layout, serving: Serving, shared: str) -> list[str]:
    return [
        str(layout.binary),
        *flags(serving),
        f"--backend-directory={layout.backends}",
        f"--backend-config=python,shm-region-prefix-name={shared}",
        "--allow-gpu-metrics=false",
    ]


def _environment(env: ServerEnv, serving: Serving) -> dict[str, str]:
    """This process's environment, but the Python that the server's stub finds is that of the server's environment."""
    kept = {
        name: value for name, value in command_environment(serving).items() if name not in ("PYTHONPATH", "PYTHONHOME")
    }
    libraries = [*map(str, env.libraries), *filter(None, [kept.get("LD_LIBRARY_PATH")])]
    path = [str(env.root / "bin"), *filter(None, [kept.get("PATH")])]
    found = {"PATH": os.pathsep.join(path), "VIRTUAL_ENV": str(env.root), "LD_LIBRARY_PATH": ":".join(libraries)}
    return {**kept, **found}


def _wait_until_ready(process: subprocess.Popen[bytes], host: str, port: int, log: Path, timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while not _ready(host, port):
        if process.poll() is not None:
            kind = LockTimeout if b"lock_exception" in log.read_bytes() else ServerError
            raise kind(f"the server stopped with status {process.returncode}:\n{_complaints(log)}")
        if time.monotonic() > end:
            raise ServerError(f"the server was not ready within {timeout_s:g} s:\n{_complaints(log)}")
        time.sleep(0.2)


def _ready(host: str, port: int) -> bool:
    connection = HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _complaints(log: Path) -> str:
    """The errors in Triton's log, marked E behind the time; its last lines where there are none."""
    lines = log.read_text(errors="replace").splitlines()
    errors = [line for line in lines if re.match(r"\S+Z E |error: ", line) and "CudaDriverHelper" not in line]
    return "\n".join([*(errors or lines[-20:]), f"(all of the log: {log})"])


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the server to end, wait, then kill whatever is left of its process group."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(EXIT_S + 10)
    with suppress(ProcessLookupError):  # nothing left, as it should be
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM. Status 0 then, 1 if the server could not start or stopped by itself."""
    args = _parser().parse_args(arguments)
    if args.threads is not None:
        os.environ[THREADS_VARIABLE] = str(args.threads)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        serving = serving_of(args, new_key())
        with serve(serving, args.server_env, args.folder, args.timeout) as server:
            print(f"Triton serves {args.repository} at {server.address} (log: {server.log}); ask it with", flush=True)
            print(f"  cairn query --server {server.address} PHOTO...", flush=True)
            status = server.process.wait()
            print(f"the server stopped with status {status}:\n{_complaints(server.log)}", file=sys.stderr)
            return 1
    except (ServerError, ControlError, CommandError, PlanError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _interrupt(number: int, frame: object) -> None:
    """Leave `serve`, which stops the server; a second signal must not cut that short."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cairn.serving.server",
        description="Serve the exported model with the real Triton server, on this machine's CPU, without a container.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_options(parser, Serving(ROOT / "triton_repo", key="", photos=default_photos()))
    parser.add_argument(
        "--server-env",
        type=Path,
        default=default_server_env(),
        help=f"virtual environment of the server, or ${ENV_VARIABLE}",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=ROOT / "build" / "serve",
        help="what the server runs from; keeps the log and the key to reload",
    )
    parser.add_argument(
        "--threads", type=int, default=None, help=f"of each model, or ${THREADS_VARIABLE}; none: all cores"
    )
    parser.add_argument("--timeout", type=float, default=STARTUP_S, help="seconds to wait until the server is ready")
    return parser


if __name__ == "__main__":
    sys.exit(main())
