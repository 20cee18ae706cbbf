"""Show what the gallery holds: its changes in order, its photos by landmark, and the versions of the index."""

from __future__ import annotations

import argparse
from collections import Counter

from cairn.gallery.changes import Addition, Change, PhotosRemoved, open_gallery, read_changes
from cairn.gallery.options import add_gallery, refused_as_message
from cairn.gallery.versions import EXPORTED, MODEL, numbers, read_version


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line of `cairn gallery`."""
    parser.add_argument("--photos", action="store_true", help="each photo by its id, too")
    add_gallery(parser)


def run(args: argparse.Namespace) -> int:
    """Print. Status 0, 2 if something is broken."""
    return refused_as_message("gallery", lambda: show(args))


def show(args: argparse.Namespace) -> int:
    """Raises GalleryError, naming the file, if a change or a version is broken."""
    gallery = open_gallery(args.gallery)
    if not gallery.changes:
        print(f"{args.gallery}: empty; `cairn add NAME PHOTO...` begins it")
    for number, change in read_changes(args.gallery):
        print(f"{number:5}  {_told(change)}")
    for name, count in sorted(Counter(each.landmark for each in gallery.added.values()).items()):
        print(f"{count:5} photo(s) of {name}")
        if args.photos:
            mine = [each.photo for each in gallery.added.values() if each.landmark == name]
            print("".join(f"         {photo.image_id}  {photo.source_name}\n" for photo in mine), end="")
    if (args.repository / MODEL).is_dir():
        for number in numbers(args.repository):
            print(f"version {number}: {_version(args, number)}")
    return 0


def _told(change: Change) -> str:
    if isinstance(change, Addition):
        return f"{len(change.photos)} photo(s) of {change.landmark} added"
    if isinstance(change, PhotosRemoved):
        return f"{len(change.image_ids)} photo(s) removed: {', '.join(change.image_ids[:3])}" + (
            ", ..." if len(change.image_ids) > 3 else ""
        )
    return f"{change.landmark} removed"


def _version(args: argparse.Namespace, number: int) -> str:
    if number == EXPORTED:
        return "what the pipeline exported"
    version = read_version(args.repository, number)
    again = "" if version.content_of == number else f", as version {version.content_of} was"
    return f"{version.added} photo(s) added, {version.removed} removed, up to change {version.change}{again}"
