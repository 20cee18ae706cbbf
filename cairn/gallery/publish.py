"""Bring the gallery's changes into the served index, without retraining and without a gap in service.

A new version of the index is written beside the others, whole or not at all, and the running server is told to load it;
it answers from the old one until then. Numbers only rise, and every answer carries its own. The threshold and the
calibration of the answer stay those that `evaluate` chose: they are not measured again on what was added.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cairn.client.query import positive
from cairn.gallery.building import publish as publish_changes
from cairn.gallery.changes import open_gallery
from cairn.gallery.embeddings import probe
from cairn.gallery.locking import GalleryError, locked
from cairn.gallery.options import add_gallery, refused_as_message
from cairn.gallery.reloading import OtherNetwork, ServerRefused, ServerSilent, reload
from cairn.gallery.versions import EXPORTED, MODEL, before_newest, prune, publish_again, withdraw
from cairn.retrieval.answer import AnswerRule, rule_of
from cairn.serving.control import CERTIFICATE_VARIABLE, KEY_VARIABLE, Control, ControlError, elsewhere, read

SERVER_FOLDER = Path("build", "serve")
KEEP = 3  # published versions


class Told(NamedTuple):
    """The server that is told, and what the repository's network makes of a photo: float32 [dimensions]."""

    control: Control
    photo: bytes
    embedding: NDArray[np.float32]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line of `cairn publish`."""
    content = parser.add_mutually_exclusive_group()
    content.add_argument("--back", action="store_true", help="publish what was served before, instead of the changes")
    content.add_argument(
        "--version", type=int, metavar="N", help="publish what version N holds, instead of the changes"
    )
    add_gallery(parser)
    server = parser.add_mutually_exclusive_group()
    server.add_argument(
        "--server-folder",
        type=Path,
        default=SERVER_FOLDER,
        metavar="FOLDER",
        help=f"what the server runs from, with its key (default: {SERVER_FOLDER})",
    )
    server.add_argument(
        "--server", metavar="HOST:PORT", help=f"a server elsewhere, its key in ${KEY_VARIABLE}; it sees this repository"
    )
    server.add_argument("--no-reload", action="store_true", help="tell no server")
    parser.add_argument(
        "--keep",
        type=positive,
        metavar="N",
        help=f"how many published versions stay once the server has the newest (default: {KEEP}); with --no-reload all "
        "stay unless this is given",
    )
    parser.add_argument(
        "--timeout", type=float, default=600.0, metavar="S", help="seconds to wait for the server (default: 600)"
    )


def run(args: argparse.Namespace) -> int:
    """Publish and print. Status 0; 1 if it was published, but no server could be told; 2 if nothing was published."""
    return refused_as_message("publish", lambda: publish(args))


def publish(args: argparse.Namespace) -> int:
    """Raises GalleryError, or what the exported files raise, before there is a new version."""
    model = args.repository / MODEL
    rule = rule_of(model / str(EXPORTED))
    told = _told(args)
    with locked(model):
        number = _again(args) if args.back or args.version is not None else _changes(args, rule)
        status = _tell(args, told, number)
        served = told is not None and status == 0  # otherwise a server may serve any of those before
        if served or (args.no_reload and args.keep is not None):
            _prune(args.repository, args.keep or KEEP)
    return status


def _prune(repository: Path, keep: int) -> None:
    gone = prune(repository, keep)
    if gone:
        print(f"removed version {', '.join(map(str, gone))}: the newest {keep} stay")


def _changes(args: argparse.Namespace, rule: AnswerRule) -> int:
    with locked(args.gallery):
        number, version = publish_changes(args.repository, open_gallery(args.gallery))
    print(f"version {number} of the index: {version.added} photo(s) added, {version.removed} removed")
    print(f"threshold and calibration are those of version {EXPORTED}: they were not measured again")
    if any(step.name == "classify" for step in rule.steps):
        print("the classifier alone answers here: new landmarks are found as neighbours, but never answered")
    return number


def _again(args: argparse.Namespace) -> int:
    source = before_newest(args.repository) if args.back else args.version
    number = publish_again(args.repository, source)
    print(f"version {number} of the index is what version {source} was; the gallery is as it was")
    return number


def _told(args: argparse.Namespace) -> Told | None:
    """The server; none if none shall be told. Raises ControlError as `_control`, and what `probe` raises."""
    control = _control(args)
    if control is None:
        return None
    _check_certificate(control)
    return Told(control, *probe(args.repository))


def _control(args: argparse.Namespace) -> Control | None:
    """How to tell the server; none if none shall be told. Raises ControlError if --server comes without a key."""
    if args.no_reload:
        return None
    if args.server:
        if not os.environ.get(KEY_VARIABLE):
            raise ControlError(f"--server {args.server}: its key is needed in ${KEY_VARIABLE}")
        return elsewhere(args.server)
    try:
        return read(args.server_folder)
    except ControlError as error:
        print(f"no server is told: {error}")
        return None


def _check_certificate(control: Control) -> None:
    """Raises ControlError if there is one to trust that cannot be read."""
    if control.certificate is None:
        return
    try:
        Path(control.certificate).read_bytes()
    except OSError as error:
        raise ControlError(
            f"{control.certificate}: cannot be read ({error.strerror}); the server's certificate, or that of who "
            f"signed it, is needed: name it in {CERTIFICATE_VARIABLE}, or start the server anew"
        ) from error


def _tell(args: argparse.Namespace, told: Told | None, number: int) -> int:
    if told is None:
        print("a server serves it from its next start on")
        return 0
    try:
        done = reload(*told, number, args.timeout)
    except ServerRefused as error:
        withdraw(args.repository, [number])
        raise GalleryError(f"{error}; version {number} was removed again, and the server goes on as before") from error
    except (ServerSilent, OtherNetwork) as error:
        print(f"version {number} is there, but it is not served yet: {error}")
        return 1
    print(f"{done.address} serves version {number}, after {done.seconds:.1f} s")
    return 0
