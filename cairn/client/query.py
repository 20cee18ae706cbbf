"""Ask a running server what photos show. Each photo gets a line, in order."""

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

from cairn.client.answers import Answer, Neighbour, PhotoError, ServerUnavailable, Verified
from cairn.client.client import Client
from cairn.client.given import STDIN, contents, found, listed
from cairn.client.options import DEFAULT_ADDRESS, DEFAULT_TIMEOUT_S, LARGEST_BATCH, SERVER_VARIABLE, Options, Tls
from cairn.client.wire import MOST_CHECKED
from cairn.progress import progress

EXAMPLES = """\
examples:
  cairn query tower.jpg                        which landmark it shows
  cairn query --top 3 --check 3 tower.jpg      how the nearest photos match it
  cairn query --json photos/ > answers.jsonl   a folder, an object a photo
  find . -name '*.jpg' -print0 | cairn query --files-from -
  cairn query - < tower.jpg

exit status:
  0  every photo has an answer
  1  some have none; their lines say why
  2  it could not be tried, or the server went away
"""

Outcome = Answer | Verified | PhotoError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line of `cairn query`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLES
    parser.add_argument(
        "photos",
        nargs="*",
        type=Path,
        metavar="PHOTO",
        help="an image file, a folder of them, or - for one photo on standard input",
    )
    parser.add_argument(
        "--files-from",
        type=Path,
        metavar="FILE",
        help="read more paths from FILE (- for standard input), one a line or NUL-separated",
    )
    shown = parser.add_argument_group("what is shown")
    shown.add_argument("--json", action="store_true", help="print one JSON object a photo, one a line")
    shown.add_argument(
        "--top",
        type=_count,
        metavar="N",
        help="how many of the nearest photos to show (default: none, or as many as are checked; with --json, all)",
    )
    shown.add_argument(
        "--check",
        type=_checked,
        metavar="N",
        help=f"compare the photo with its N nearest, 1 to {MOST_CHECKED}, and count the points that match (slower)",
    )
    _add_connection(parser.add_argument_group("the server"))


def _add_connection(group: argparse._ArgumentGroup) -> None:
    usual = Options()
    group.add_argument(
        "--server",
        default=os.environ.get(SERVER_VARIABLE) or DEFAULT_ADDRESS,
        metavar="HOST:PORT",
        help=f"its gRPC address (default: ${SERVER_VARIABLE}, or {DEFAULT_ADDRESS})",
    )
    seconds = f"(default: {DEFAULT_TIMEOUT_S:g})"
    group.add_argument(
        "--timeout", type=_seconds, default=DEFAULT_TIMEOUT_S, metavar="S", help=f"for a photo's answer {seconds}"
    )
    group.add_argument(
        "--connect-timeout",
        type=_seconds,
        default=usual.connect_timeout_s,
        metavar="S",
        help=f"for the connection (default: {usual.connect_timeout_s:g})",
    )
    group.add_argument(
        "--attempts",
        type=positive,
        default=usual.attempts,
        metavar="N",
        help=f"at a photo, as long as no server answers (default: {usual.attempts})",
    )
    group.add_argument(
        "--batch",
        type=positive,
        default=usual.photos_a_request,
        metavar="N",
        help=f"photos a request, up to {LARGEST_BATCH} (default: {usual.photos_a_request})",
    )
    group.add_argument("--tls", action="store_true", help="encrypt; implied by the three options below")
    group.add_argument("--tls-ca", type=Path, metavar="PEM", help="who vouches for the server (default: as gRPC does)")
    group.add_argument("--tls-cert", type=Path, metavar="PEM", help="our certificate, where the server asks for one")
    group.add_argument("--tls-key", type=Path, metavar="PEM", help="its key")


def run(args: argparse.Namespace) -> int:
    """Ask and print. Status 0, 1 if some photo had no answer, 2 if the server could not be asked."""
    try:
        paths = _paths(args)
        client = Client(args.server, args.timeout, _options(args))
    except (ValueError, OSError) as error:
        print(f"cairn query: {error}", file=sys.stderr)
        return 2
    failed = False
    try:
        with client:
            client.check()
            for path, outcome in _with_bar(ask(client, paths, args.check), len(paths)):
                failed = failed or isinstance(outcome, PhotoError)
                print(_as_json(path, outcome, args.top) if args.json else _as_text(path, outcome, _shown(args)))
    except ServerUnavailable as error:
        print(f"cairn query: {error}", file=sys.stderr)
        return 2
    return int(failed)


def _shown(args: argparse.Namespace) -> int:
    top: int | None = args.check if args.top is None else args.top
    return top or 0


def _paths(args: argparse.Namespace) -> list[Path]:
    """Raises ValueError if nothing is asked about or standard input is wanted twice, and OSError as `listed`."""
    if not args.photos and args.files_from is None:
        raise ValueError("no photos given; see `cairn query --help`")
    if [*args.photos, args.files_from].count(STDIN) > 1:
        raise ValueError("standard input (-) can be read only once")
    more = [] if args.files_from is None else listed(args.files_from)
    if STDIN in more:
        raise ValueError(f"{args.files_from}: holds the path `-`; write a file of that name with its whole path")
    return found([*args.photos, *more])


def _options(args: argparse.Namespace) -> Options:
    given = (args.tls_ca, args.tls_cert, args.tls_key)
    return Options(
        connect_timeout_s=args.connect_timeout,
        attempts=args.attempts,
        photos_a_request=args.batch,
        tls=Tls(*given) if args.tls or any(given) else None,
    )


def ask(client: Client, paths: Iterable[Path], check: int | None = None) -> Iterator[tuple[Path, Outcome]]:
    """Each photo's path and its answer, or why there is none, in order; files are read as they are sent.

    With `check` answers are verified. Raises ServerUnavailable, naming the file that was asked about.
    """
    read: deque[tuple[Path, PhotoError | None]] = deque()

    def photos() -> Iterator[bytes]:
        for path, content in contents(paths, client.options.max_photo_mb):
            read.append((path, content if isinstance(content, PhotoError) else None))
            if not isinstance(content, PhotoError):
                yield content

    outcomes: Iterator[Outcome] = client.stream(photos()) if check is None else client.verify_stream(photos(), check)
    try:
        for outcome in outcomes:
            yield from _unreadable(read)
            yield read.popleft()[0], outcome
    except ServerUnavailable as error:
        yield from _unreadable(read)
        raise ServerUnavailable(f"{read[0][0]}: {error}") from error
    yield from _unreadable(read)


def _unreadable(read: deque[tuple[Path, PhotoError | None]]) -> Iterator[tuple[Path, PhotoError]]:
    """Take those off the front that were never sent."""
    while read and read[0][1] is not None:
        path, error = read.popleft()
        if error is not None:
            yield path, error


def _with_bar(outcomes: Iterator[tuple[Path, Outcome]], total: int) -> Iterable[tuple[Path, Outcome]]:
    """A bar where the lines go to a file and somebody is watching."""
    watched = sys.stderr.isatty() and not sys.stdout.isatty()
    return progress(outcomes, "query", total) if watched else outcomes


def _as_json(path: Path, outcome: Outcome, top: int | None) -> str:
    line: dict[str, Any] = {"image": str(path)}
    if isinstance(outcome, PhotoError):
        line["error"] = str(outcome)
        if outcome.request_id:
            line["request_id"] = outcome.request_id
        return json.dumps(line, ensure_ascii=False)
    line.update(asdict(outcome.answer if isinstance(outcome, Verified) else outcome))
    if isinstance(outcome, Verified):
        for near, inliers in zip(line["neighbours"], outcome.inliers, strict=True):
            near["inliers"] = inliers
    line["neighbours"] = line["neighbours"][:top]
    return json.dumps(line, ensure_ascii=False)


def _as_text(path: Path, outcome: Outcome, top: int) -> str:
    if isinstance(outcome, PhotoError):
        asked = f" (request {outcome.request_id})" if outcome.request_id else ""
        return f"{path}: error: {outcome}{asked}"
    answer = outcome.answer if isinstance(outcome, Verified) else outcome
    inliers = outcome.inliers if isinstance(outcome, Verified) else [None] * len(answer.neighbours)
    named = "no landmark" if answer.landmark_id is None else f"{answer.landmark} ({answer.landmark_id})"
    sure = "" if answer.probability is None else f", probability {answer.probability:.2f}"
    near = [_near(*pair) for pair in zip(answer.neighbours[:top], inliers, strict=False)]
    return "\n".join([f"{path}: {named}, score {answer.score:.3f}{sure}", *near])


def _near(neighbour: Neighbour, inliers: int | None) -> str:
    matching = "" if inliers is None else f", {inliers} matching points"
    owed = f"  [{neighbour.attribution}]" if neighbour.attribution else ""
    shows = f"{neighbour.landmark} ({neighbour.landmark_id})"
    return f"    {neighbour.image_id}  {neighbour.score:.3f}{matching}  {shows}{owed}"


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def positive(text: str) -> int:
    """A whole number of at least 1. Raises argparse.ArgumentTypeError."""
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _checked(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text) <= MOST_CHECKED:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {MOST_CHECKED}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from error
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds over 0")
    return value
