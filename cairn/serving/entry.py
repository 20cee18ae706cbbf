"""What the server's container starts: checks that everything belongs together, then becomes Triton itself.

A child of it looks after the models' processes.

Clients come from outside the container, so gRPC and metrics listen on all of its addresses; the container's published
ports say what of that the world sees. HTTP, which has no TLS, is for the health check inside.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from cairn.serving.command import EVERYWHERE, CommandError, Serving, add_options, environment, flags, serving_of
from cairn.serving.control import KEY_VARIABLE, ControlError, new_key
from cairn.serving.plans import PlanError
from cairn.serving.runtime import ServerError, check_path, check_serving
from cairn.serving.watchdog import api_of, look_after

BINARY = "tritonserver"
DEFAULT = Serving(Path("/models"), key="", host=EVERYWHERE, metrics_host=EVERYWHERE, embedder="tensorrt")


def main(arguments: Sequence[str] | None = None) -> int:
    """Become the server; comes back only with status 1, if it must not or cannot start."""
    args = parser().parse_args(arguments)
    try:
        serving = prepared(args)
        binary = shutil.which(BINARY)
        if binary is None:
            raise ServerError(f"no {BINARY} on the path: this is for Triton's container; without one, run `make serve`")
    except (CommandError, ControlError, PlanError, ServerError) as error:
        print(error, file=sys.stderr)
        return 1
    _look_after(serving)
    os.execve(binary, [BINARY, *flags(serving), *args.more], environment(serving))


def parser() -> argparse.ArgumentParser:
    """The command line of the container."""
    made = argparse.ArgumentParser(
        prog="python -m cairn.serving.entry",
        description="Serve a model repository with the Triton of this container.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_options(made, DEFAULT)
    made.add_argument("more", nargs="*", metavar="-- ...", help="options of tritonserver itself")
    return made


def prepared(args: argparse.Namespace) -> Serving:
    """How to serve. Raises what is wrong with the options, the key, the repository or the plan."""
    serving = serving_of(args, new_key())
    check_path(serving.repository)
    check_serving(serving)
    if not os.environ.get(KEY_VARIABLE):
        print(f"{KEY_VARIABLE} is not set: a new index will be served after a restart only", file=sys.stderr)
    return serving


def _look_after(serving: Serving) -> None:
    """Leave a child behind that mends the models of what this process is about to become, and ends with it."""
    sys.stdout.flush()
    sys.stderr.flush()
    server = os.getpid()
    if os.fork():
        return

    def over(seconds: float) -> bool:
        time.sleep(seconds)
        return os.getppid() != server

    look_after(server, api_of(serving), over, lambda what: print(what, file=sys.stderr, flush=True))
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
