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
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import NamedTuple

from cairn.serving.runtime import Layout, ServerEnv, ServerError, check_repository, find_server_env, lay_out
from cairn.serving.threads import VARIABLE as THREADS_VARIABLE

ROOT = Path(__file__).resolve().parents[2]
ENV_VARIABLE = "CAIRN_SERVER_ENV"
LOOPBACK = "127.0.0.1"
CLOSED = "shared-memory,model-repository,trace"  # protocols no client needs, and that reach beyond asking
EXIT_S = 10  # for requests under way when the server is told to stop
STARTUP_S = 120.0
SHARED_MEMORY = Path("/dev/shm")
LIBC = ctypes.CDLL(None)  # opened here: the forked child should do as little as it can
PR_SET_PDEATHSIG = 1


class Ports(NamedTuple):
    """TCP ports."""

    grpc: int = 8001
    http: int = 8000
    metrics: int = 8002


class Server(NamedTuple):
    """A server that is ready."""

    process: subprocess.Popen[bytes]
    address: str  # host:port of gRPC
    log: Path


def default_server_env() -> Path:
    """Where the server's virtual environment is: CAIRN_SERVER_ENV, or `.venv-server` in the project's root."""
    return Path(os.environ.get(ENV_VARIABLE) or ROOT / ".venv-server")


@contextmanager
def running_server(repository: Path, env: Path, timeout_s: float = STARTUP_S) -> Iterator[str]:
    """Serve `repository` on free loopback ports while the block runs; gives the gRPC address, host:port.

    `env` is the server's virtual environment. Raises ServerError if something is missing or the server does not
    become ready within `timeout_s` seconds.
    """
    with (
        tempfile.TemporaryDirectory(prefix="cairn-serve-") as folder,
        started(repository, env, Path(folder), free_ports(), LOOPBACK, timeout_s) as server,
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
    repository: Path, env: Path, folder: Path, ports: Ports, host: str, timeout_s: float = STARTUP_S
) -> Iterator[Server]:
    """Serve `repository` while the block runs, from `folder`, which is laid out anew and keeps the log.

    Raises ServerError as running_server does, and if a port is taken.
    """
    check_repository(repository)
    found = find_server_env(env)
    _check_ports(host, ports)
    layout = lay_out(repository, found, folder)
    log = folder / "triton.log"
    shared = f"cairn_{os.getpid()}_{secrets.token_hex(4)}"
    with log.open("wb") as file:
        process = subprocess.Popen(
            _command(layout, ports, host, shared),
            env=_environment(found),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - makes one system call
        )
    try:
        _wait_until_ready(process, LOOPBACK if host == "0.0.0.0" else host, ports.http, log, timeout_s)
        yield Server(process, f"{host}:{ports.grpc}", log)
    finally:
        _stop(process)
        for left in SHARED_MEMORY.glob(f"{shared}*"):
            left.unlink(missing_ok=True)


def _end_with_parent() -> None:
    """Have the kernel stop the server if the launcher is killed; the server then ends its models' processes."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _check_ports(host: str, ports: Ports) -> None:
    for name, port in ports._asdict().items():
        try:
            socket.create_server((host, port)).close()
        except OSError as error:
            raise ServerError(f"{host}:{port}: cannot listen there ({error.strerror}); pass --{name}-port") from error


def _command(layout: Layout, ports: Ports, host: str, shared: str) -> list[str]:
    return [
        str(layout.binary),
        f"--model-repository={layout.models}",
        f"--backend-directory={layout.backends}",
        f"--backend-config=python,shm-region-prefix-name={shared}",
        "--disable-auto-complete-config",
        f"--grpc-address={host}",
        f"--grpc-port={ports.grpc}",
        f"--http-address={host}",
        f"--http-port={ports.http}",
        f"--metrics-address={host}",
        f"--metrics-port={ports.metrics}",
        "--allow-gpu-metrics=false",
        f"--grpc-restricted-protocol={CLOSED}:closed={secrets.token_hex(16)}",
        f"--http-restricted-api={CLOSED}:closed={secrets.token_hex(16)}",
        f"--exit-timeout-secs={EXIT_S}",
    ]


def _environment(env: ServerEnv) -> dict[str, str]:
    """This process's environment, with the server's libraries and without what leads its Python elsewhere."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    libraries = [*map(str, env.libraries), *filter(None, [kept.get("LD_LIBRARY_PATH")])]
    return {**kept, "LD_LIBRARY_PATH": ":".join(libraries), "PYTHONDONTWRITEBYTECODE": "1"}


def _wait_until_ready(process: subprocess.Popen[bytes], host: str, port: int, log: Path, timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while not _ready(host, port):
        if process.poll() is not None:
            raise ServerError(f"the server stopped with status {process.returncode}:\n{_complaints(log)}")
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
    """The errors in Triton's log, whose lines begin with E and the date; its last lines where there are none."""
    lines = log.read_text(errors="replace").splitlines()
    errors = [line for line in lines if re.match(r"E\d{4} |error: ", line) and "CudaDriverHelper" not in line]
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
    ports = Ports(args.grpc_port, args.http_port, args.metrics_port)
    try:
        with started(args.repository, args.server_env, args.folder, ports, args.host, args.timeout) as server:
            print(f"Triton serves {args.repository} at {server.address} (log: {server.log}); ask it with", flush=True)
            print(f"  cairn query --server {server.address} PHOTO...", flush=True)
            status = server.process.wait()
            print(f"the server stopped with status {status}:\n{_complaints(server.log)}", file=sys.stderr)
            return 1
    except ServerError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _interrupt(number: int, frame: object) -> None:
    """Leave `started`, which stops the server; a second signal must not cut that short."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cairn.serving.server",
        description="Serve the exported model with the real Triton server, on this machine's CPU, without a container.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--repository", type=Path, default=ROOT / "triton_repo", help="the model repository")
    parser.add_argument(
        "--server-env",
        type=Path,
        default=default_server_env(),
        help=f"virtual environment of the server, or ${ENV_VARIABLE}",
    )
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "build" / "serve", help="what the server runs from; keeps the log"
    )
    parser.add_argument("--host", default=LOOPBACK, help="address to listen on")
    for name, port in Ports()._asdict().items():
        parser.add_argument(f"--{name}-port", type=int, default=port, help=" ")
    parser.add_argument(
        "--threads", type=int, default=None, help=f"of each model, or ${THREADS_VARIABLE}; none: all cores"
    )
    parser.add_argument("--timeout", type=float, default=STARTUP_S, help="seconds to wait until the server is ready")
    return parser


if __name__ == "__main__":
    sys.exit(main())
