"""Ask a running server what photos show. Folders are walked; each photo gets a line, in the order given."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cairn.client.client import DEFAULT_ADDRESS, Answer, Client, PhotoError, ServerUnavailable
from cairn.progress import progress

SERVER_VARIABLE = "CAIRN_SERVER"
SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".mpo", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line of `cairn query`."""
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="an image file, or a folder of them")
    parser.add_argument("--json", action="store_true", help="print one JSON object a photo, one a line")
    parser.add_argument(
        "--server",
        default=os.environ.get(SERVER_VARIABLE) or DEFAULT_ADDRESS,
        metavar="HOST:PORT",
        help=f"gRPC address of the server (default: ${SERVER_VARIABLE}, or {DEFAULT_ADDRESS})",
    )
    parser.add_argument(
        "--top",
        type=_count,
        metavar="N",
        help="how many of the nearest photos to show (default: none; with --json, all)",
    )
    parser.add_argument(
        "--timeout", type=_seconds, default=30.0, metavar="S", help="seconds to wait for a photo's answer (default: 30)"
    )


def run(args: argparse.Namespace) -> int:
    """Ask and print. Status 0, 1 if some photo had no answer, 2 if the server could not be asked."""
    paths = [path for given in args.photos for path in found_in(given)]
    failed = False
    try:
        with Client(args.server, args.timeout) as client:
            client.check()
            for path, outcome in _with_bar(ask(client, paths), len(paths)):
                failed = failed or not isinstance(outcome, Answer)
                print(_as_json(path, outcome, args.top) if args.json else _as_text(path, outcome, args.top))
    except ServerUnavailable as error:
        print(f"cairn query: {error}", file=sys.stderr)
        return 2
    return int(failed)


def found_in(given: Path) -> list[Path]:
    """`given` itself, or of a folder the image files in it, at any depth, in order of their paths; hidden ones not."""
    if not given.is_dir():
        return [given]
    files = (path for path in sorted(given.rglob("*")) if path.suffix.lower() in SUFFIXES and path.is_file())
    shown = [path for path in files if not any(part.startswith(".") for part in path.relative_to(given).parts)]
    return shown or [given]


def ask(client: Client, paths: Iterable[Path]) -> Iterator[tuple[Path, Answer | PhotoError]]:
    """Each photo's path and its answer, or why there is none, in order; files are read as they are sent."""
    read: deque[tuple[Path, PhotoError | None]] = deque()

    def contents() -> Iterator[bytes]:
        for path in paths:
            content = _content(path)
            read.append((path, content if isinstance(content, PhotoError) else None))
            if not isinstance(content, PhotoError):
                yield content

    for outcome in client.stream(contents()):
        yield from _unreadable(read)
        yield read.popleft()[0], outcome
    yield from _unreadable(read)


def _content(path: Path) -> bytes | PhotoError:
    if path.is_dir():
        return PhotoError("no image files in this folder")
    try:
        return path.read_bytes()
    except OSError as error:
        return PhotoError(f"cannot be read: {error.strerror}")


def _unreadable(read: deque[tuple[Path, PhotoError | None]]) -> Iterator[tuple[Path, PhotoError]]:
    """Take those off the front that were never sent."""
    while read and read[0][1] is not None:
        path, error = read.popleft()
        if error is not None:
            yield path, error


def _with_bar(
    outcomes: Iterator[tuple[Path, Answer | PhotoError]], total: int
) -> Iterable[tuple[Path, Answer | PhotoError]]:
    """A bar where the lines go to a file and somebody is watching."""
    watched = sys.stderr.isatty() and not sys.stdout.isatty()
    return progress(outcomes, "query", total) if watched else outcomes


def _as_json(path: Path, outcome: Answer | PhotoError, top: int | None) -> str:
    line: dict[str, Any] = {"image": str(path)}
    if isinstance(outcome, PhotoError):
        line["error"] = str(outcome)
    else:
        line.update(asdict(outcome))
        line["neighbours"] = line["neighbours"][:top]
    return json.dumps(line, ensure_ascii=False)


def _as_text(path: Path, outcome: Answer | PhotoError, top: int | None) -> str:
    if isinstance(outcome, PhotoError):
        return f"{path}: error: {outcome}"
    named = "no landmark" if outcome.landmark_id is None else f"{outcome.landmark} ({outcome.landmark_id})"
    near = (f"    {n.image_id}  landmark {n.landmark_id}  {n.score:.3f}" for n in outcome.neighbours[: top or 0])
    sure = "" if outcome.probability is None else f", probability {outcome.probability:.2f}"
    return "\n".join([f"{path}: {named}, score {outcome.score:.3f}{sure}", *near])


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from error
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds over 0")
    return value
