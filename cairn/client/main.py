"""The `cairn` command: the table of its subcommands, and the way to the one asked for."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import NamedTuple

from cairn import __version__


class Command(NamedTuple):
    """A subcommand. Its module has `add_arguments(parser)` and `run(args) -> int`, the exit status."""

    summary: str
    module: str  # imported only when the subcommand is asked for
    extra: str  # of this package: what has to be installed for it


COMMANDS = {
    "query": Command("ask a running server what photos show", "cairn.client.query", "client"),
    "page": Command("serve a page to drop photos on", "cairn.page.app", "page"),
    "plan": Command("build the TensorRT plan on this machine's GPU", "cairn.export.plan", "pipeline,gpu"),
    "add": Command("add photos of a landmark, to be published", "cairn.gallery.add", "pipeline"),
    "remove": Command("remove photos or a landmark, to be published", "cairn.gallery.remove", "pipeline"),
    "gallery": Command("show what was added and removed", "cairn.gallery.show", "pipeline"),
    "publish": Command("bring what was added and removed into the served index", "cairn.gallery.publish", "pipeline"),
    "summary": Command("print what the last `dvc repro` came to", "cairn.summary", "pipeline"),
    "backfill": Command("log to MLflow what DVC's run cache restored", "cairn.backfill", "pipeline"),
    "leaderboard": Command("print the table of experiments, from MLflow", "cairn.leaderboard", "pipeline"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand. Status 0: all went well; 1: part of it did not; 2: it could not be tried."""
    chosen = _parser().parse_args(arguments)
    command = COMMANDS[chosen.command]
    try:
        module = import_module(command.module)
    except ModuleNotFoundError as error:
        print(f"cairn {chosen.command}: {error}; install `cairn[{command.extra}]`", file=sys.stderr)
        return 2
    parser = argparse.ArgumentParser(prog=f"cairn {chosen.command}", description=module.__doc__)
    module.add_arguments(parser)
    args = parser.parse_args(chosen.arguments)
    if isinstance(sys.stdout, TextIOWrapper):
        # Names of landmarks come out whole under any locale, and file names that are not UTF-8 as they went in.
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    try:
        status: int = module.run(args)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, as `head`, has enough; nothing more can be written, at exit neither
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    width = max(len(name) for name in COMMANDS)
    table = "\n".join(f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="cairn",
        description="Landmark recognition: which landmark does a photo show, or none?",
        epilog=f"commands:\n{table}\n\n`cairn COMMAND --help` tells what each takes.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"cairn {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of those below")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="what the command takes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
