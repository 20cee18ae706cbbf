"""Options that the gallery's commands share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path


def add_gallery(parser: argparse.ArgumentParser) -> None:
    """--gallery and --repository."""
    parser.add_argument(
        "--gallery",
        type=Path,
        default=Path("gallery"),
        metavar="FOLDER",
        help="where changes are kept (default: gallery)",
    )
    parser.add_argument(
        "--repository",
        type=Path,
        default=Path("triton_repo"),
        metavar="FOLDER",
        help="the model repository (default: triton_repo)",
    )


def refused_as_message(command: str, work: Callable[[], int]) -> int:
    """The status of `work`; 2, with its message on standard error, where it could not be tried."""
    try:
        return work()
    except (ValueError, OSError) as error:
        print(f"cairn {command}: {error}", file=sys.stderr)
        return 2
