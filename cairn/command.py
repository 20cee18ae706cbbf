"""The `cairn` command: a table of subcommands, each loaded only when it is called."""

from __future__ import annotations

import importlib
import sys

COMMANDS = {
    "query": ("cairn.client.query", "ask a running server what photos show"),
    "summary": ("cairn.summary", "print what the last `dvc repro` came to"),
    "backfill": ("cairn.backfill", "log to MLflow what DVC's run cache restored"),
}


def main() -> None:
    """Run `cairn NAME ...`: the module's `main(arguments) -> exit status`."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        sys.exit(0 if arguments else 2)
    if arguments[0] not in COMMANDS:
        print(f"cairn: no command {arguments[0]!r}\n\n{usage()}", file=sys.stderr)
        sys.exit(2)
    module = importlib.import_module(COMMANDS[arguments[0]][0])
    sys.exit(module.main(arguments[1:]))


def usage() -> str:
    """What `cairn --help` prints."""
    rows = "\n".join(f"  {name:10} {text}" for name, (_, text) in COMMANDS.items())
    return f"cairn: which landmark does this photo show, or none?\n\n{rows}\n\n`cairn COMMAND --help` explains each."
