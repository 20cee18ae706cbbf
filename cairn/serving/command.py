"""The server's command line and environment, the same for the launcher and for the container."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from cairn.serving.control import KEY_VARIABLE, NAME

LOOPBACK = "127.0.0.1"
EVERYWHERE = "0.0.0.0"
PHOTOS_VARIABLE = "CAIRN_INDEX_PHOTOS"  # the folder that the index's shards lie in; read by the models that show photos
CLOSED = "shared-memory,model-config,model-repository,statistics,trace,logging"  # what reaches beyond asking
EXIT_S = 40  # for requests under way, and 7 for models to unload, when the server is told to stop
# A search is over before idle threads would stop looking for more work: told to sleep, they take a seventh of the
# processor. glibc keeps tensors of a photo for the next one, and gives back what many or large ones took;
# cairn/serving/memory.py has what the models' processes do.
PROCESSES = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_TRIM_THRESHOLD_": str(8 * 2**20),
    "MALLOC_MMAP_THRESHOLD_": str(4 * 2**20),
}
QUANTILES = (0.5, 0.95, 0.99)  # of the latencies in /metrics

Embedder = Literal["python", "onnxruntime", "tensorrt"]  # what runs the network: a backend of Triton
EMBEDDERS: tuple[Embedder, ...] = get_args(Embedder)


class CommandError(ValueError):
    """Options that do not go together, or name a file that is not there."""


class Ports(NamedTuple):
    """TCP ports."""

    grpc: int = 8001
    http: int = 8000
    metrics: int = 8002


class Tls(NamedTuple):
    """PEM files of the server's certificate and of its key, and of who vouches for it and for clients."""

    certificate: Path
    key: Path
    authority: Path | None = None  # none: the certificate vouches for itself
    clients: Path | None = None  # none: any client may ask


class Serving(NamedTuple):
    """How a repository is served."""

    repository: Path
    key: str  # to what is closed
    host: str = LOOPBACK  # where gRPC, which clients use, listens
    http_host: str = LOOPBACK  # health checks; Triton's HTTP knows no TLS
    metrics_host: str = LOOPBACK
    ports: Ports = Ports()
    embedder: Embedder = "python"
    photos: Path | None = None
    tls: Tls | None = None
    verbose: int = 0  # 1 and more: a line in the log for each request, with its id


def flags(serving: Serving) -> list[str]:
    """The options of tritonserver. Backends and what differs between machines is the caller's."""
    return [
        f"--model-repository={serving.repository}",
        "--model-control-mode=explicit",  # a new version is loaded when it is whole, and when asked for
        "--load-model=*",
        *([] if serving.embedder == "python" else [f"--model-config-name={serving.embedder}"]),
        "--disable-auto-complete-config",
        f"--grpc-address={serving.host}",
        f"--grpc-port={serving.ports.grpc}",
        "--grpc-infer-allocation-pool-size=1",  # of messages kept for reuse, each as large as any that was ever in it
        f"--http-address={serving.http_host}",
        f"--http-port={serving.ports.http}",
        f"--metrics-address={serving.metrics_host}",
        f"--metrics-port={serving.ports.metrics}",
        "--metrics-config=summary_latencies=true",
        f"--metrics-config=summary_quantiles={','.join(f'{share:g}:0.005' for share in QUANTILES)}",
        f"--grpc-restricted-protocol={CLOSED}:{NAME}={serving.key}",
        f"--http-restricted-api={_closed_to_http(serving)}:{NAME}={serving.key}",
        *([] if serving.tls is None else _tls(serving.tls)),
        "--log-format=ISO8601",
        f"--log-verbose={serving.verbose}",
        f"--exit-timeout-secs={EXIT_S}",
    ]


def _closed_to_http(serving: Serving) -> str:
    """HTTP cannot ask for a certificate: where gRPC does, HTTP answers photos only with the key."""
    return f"{CLOSED},inference" if serving.tls is not None and serving.tls.clients is not None else CLOSED


def _tls(tls: Tls) -> list[str]:
    files = [f"--grpc-server-cert={tls.certificate}", f"--grpc-server-key={tls.key}"]
    if tls.clients is None:
        return ["--grpc-use-ssl=true", *files]
    return ["--grpc-use-ssl-mutual=true", *files, f"--grpc-root-cert={tls.clients}"]


def environment(serving: Serving) -> dict[str, str]:
    """This process's environment for the server and its models: without the key, and with the folder of photos."""
    kept = {name: value for name, value in os.environ.items() if name != KEY_VARIABLE}
    photos = {} if serving.photos is None else {PHOTOS_VARIABLE: str(serving.photos.absolute())}
    return {**PROCESSES, **kept, **photos, "PYTHONDONTWRITEBYTECODE": "1"}  # the repository is read only


def add_options(parser: argparse.ArgumentParser, default: Serving) -> None:
    """The options that the launcher and the container's entry share."""
    add = parser.add_argument
    add("--repository", type=Path, default=default.repository, help="the model repository")
    add("--photos", type=Path, default=default.photos, help="the folder with the index's photos, to show them")
    add("--embedder", choices=EMBEDDERS, default=default.embedder, help="what runs the network")
    add("--host", default=default.host, help="address that gRPC, for clients, listens on")
    add("--http-host", default=default.http_host, help="address that HTTP, for health checks, listens on; no TLS")
    add("--metrics-host", default=default.metrics_host, help="address that metrics are given on")
    for name, port in default.ports._asdict().items():
        add(f"--{name}-port", type=int, default=port, help=" ")
    add("--tls-cert", type=Path, default=None, help="PEM file; with --tls-key, gRPC speaks TLS only")
    add("--tls-key", type=Path, default=None, help="PEM file of the certificate's key")
    add("--tls-ca", type=Path, default=None, help="PEM file of who signed the certificate; none: it did itself")
    add("--tls-clients", type=Path, default=None, help="PEM file of who vouches for clients; others are turned away")
    add("--verbose", type=int, default=default.verbose, help="1 and more: requests, with their ids, in the log")


def serving_of(args: argparse.Namespace, key: str) -> Serving:
    """What the options say.

    Raises CommandError if a file is missing, or one of two that belong together, or a port is none.
    """
    if (args.tls_cert is None) != (args.tls_key is None):
        raise CommandError("--tls-cert and --tls-key belong together; give both or none")
    if args.tls_cert is None and (args.tls_clients or args.tls_ca):
        raise CommandError(
            "--tls-clients and --tls-ca need --tls-cert and --tls-key: without them nothing is encrypted"
        )
    for path in filter(None, (args.tls_cert, args.tls_key, args.tls_ca, args.tls_clients)):
        if not path.is_file():
            raise CommandError(f"{path}: no such file; the options --tls-... name PEM files")
    if args.photos is not None and not args.photos.is_dir():
        raise CommandError(f"{args.photos}: no such folder; --photos names the one with the index's shards")
    ports = Ports(args.grpc_port, args.http_port, args.metrics_port)
    for name, port in ports._asdict().items():
        if not 1 <= port <= 65535:
            raise CommandError(f"--{name}-port {port}: no port; give a number from 1 to 65535")
    return Serving(
        repository=args.repository.absolute(),
        key=key,
        host=args.host,
        http_host=args.http_host,
        metrics_host=args.metrics_host,
        ports=ports,
        embedder=args.embedder,
        photos=args.photos,
        tls=_given_tls(args),
        verbose=args.verbose,
    )


def _given_tls(args: argparse.Namespace) -> Tls | None:
    if args.tls_cert is None:
        return None
    authority, clients = (None if path is None else path.absolute() for path in (args.tls_ca, args.tls_clients))
    return Tls(args.tls_cert.absolute(), args.tls_key.absolute(), authority, clients)
