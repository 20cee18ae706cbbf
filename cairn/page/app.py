"""Serve a page to try a running server with: drop photos on it, see which landmarks they show and why.

It listens on this machine alone unless told otherwise; whoever reaches it can ask the server.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path

from nicegui import app, ui

from cairn.client import AsyncClient, Options, Tls
from cairn.client.options import DEFAULT_ADDRESS, SERVER_VARIABLE
from cairn.page.limit import UploadLimit
from cairn.page.view import show

LOOPBACK = "127.0.0.1"
PORT = 8080
MAX_PHOTO_MB = 20.0  # a browser's upload; `cairn query` takes larger ones
TIMEOUT_S = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line of `cairn page`."""
    parser.add_argument(
        "--server",
        default=os.environ.get(SERVER_VARIABLE) or DEFAULT_ADDRESS,
        metavar="HOST:PORT",
        help=f"gRPC address of the server (default: ${SERVER_VARIABLE}, or {DEFAULT_ADDRESS})",
    )
    parser.add_argument("--tls", action="store_true", help="ask the server over TLS; implied by --tls-ca")
    parser.add_argument("--tls-ca", type=Path, metavar="PEM", help="who vouches for the server (default: as gRPC does)")
    parser.add_argument("--host", default=LOOPBACK, help=f"address to listen on (default: {LOOPBACK})")
    parser.add_argument("--port", type=int, default=PORT, help=f"port to listen on (default: {PORT})")
    parser.add_argument(
        "--max-photo-mb",
        type=float,
        default=MAX_PHOTO_MB,
        metavar="MB",
        help=f"larger photos are refused (default: {MAX_PHOTO_MB:g})",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until a signal ends it. Status 2 if it cannot listen there or an option is out of its range."""
    try:
        tls = Tls(ca=args.tls_ca) if args.tls or args.tls_ca else None
        options = Options(max_photo_mb=args.max_photo_mb, tls=tls)
        socket.create_server((args.host, args.port)).close()
    except (ValueError, OverflowError, FileNotFoundError, socket.gaierror) as error:
        print(f"cairn page: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        print(f"cairn page: {args.host}:{args.port}: cannot listen there ({reason}); pass --port", file=sys.stderr)
        return 2
    clients: list[AsyncClient] = []  # one, of the event loop that the page runs in

    async def connect() -> None:
        clients.append(AsyncClient(args.server, TIMEOUT_S, options))
        print(f"The page is at http://{args.host}:{args.port} and asks the server at {args.server}", flush=True)

    async def disconnect() -> None:
        await clients.pop().close()

    app.on_startup(connect)
    app.on_shutdown(disconnect)
    app.add_middleware(UploadLimit, most_bytes=round((args.max_photo_mb + 1) * 1e6))  # and what frames the photo
    ui.run(
        lambda: show(lambda: clients[0], args.max_photo_mb),
        host=args.host,
        port=args.port,
        title="Cairn",
        language="en-US",
        show=False,
        reload=False,
        tailwind=False,
        show_welcome_message=False,
    )
    return 0
