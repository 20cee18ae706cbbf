"""Remove photos, or all photos of a landmark, from the served index; `cairn publish` then does it.

Both those of the exported index and those of the gallery can be removed. What the pipeline learnt from them stays: a
classifier that answers alone goes on naming a landmark that was removed.
"""

from __future__ import annotations

import argparse

from cairn.files import written_aside
from cairn.gallery.building import Names
from cairn.gallery.changes import Gallery, LandmarkRemoved, PhotosRemoved, open_gallery, write_change
from cairn.gallery.locking import GalleryError, locked
from cairn.gallery.options import add_gallery, refused_as_message
from cairn.gallery.versions import EXPORTED, MODEL
from cairn.names import as_compared
from cairn.retrieval.entries import ENTRIES_FILE, Entries


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line of `cairn remove`."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--photo", nargs="+", metavar="IMAGE_ID", help="photos by their ids, as answers name neighbours")
    what.add_argument("--landmark", metavar="NAME", help="all photos that this landmark has now")
    add_gallery(parser)


def run(args: argparse.Namespace) -> int:
    """Note the change and print. Status 0, 2 if it could not be noted."""
    return refused_as_message("remove", lambda: remove(args))


def remove(args: argparse.Namespace) -> int:
    """Raises GalleryError, before anything is written, if a photo or landmark is not there."""
    base = args.repository / MODEL / str(EXPORTED)
    entries, landmarks = Entries.open(base / ENTRIES_FILE), Names.of(base)
    with locked(args.gallery):
        gallery = open_gallery(args.gallery)
        if args.photo:
            change: LandmarkRemoved | PhotosRemoved = _photos(args.photo, gallery, entries)
        else:
            change = _landmark(args.landmark, gallery, landmarks)
        with written_aside(gallery.next_change) as folder:
            folder.mkdir()
            write_change(folder, change)
    what = change.landmark if isinstance(change, LandmarkRemoved) else f"{len(change.image_ids)} photo(s)"
    print(f"{what} removed in {args.gallery}; `cairn publish` takes that out of the index")
    return 0


def _photos(image_ids: list[str], gallery: Gallery, entries: Entries) -> PhotosRemoved:
    ids = tuple(sorted(set(image_ids)))
    unknown = [i for i in ids if i not in gallery.added and (i in gallery.removed_photos or entries.find(i) is None)]
    if unknown:
        raise GalleryError(f"photo {unknown[0]} is neither in the index nor in {gallery.folder}; nothing was removed")
    return PhotosRemoved(image_ids=ids)


def _landmark(name: str, gallery: Gallery, landmarks: Names) -> LandmarkRemoved:
    found = as_compared(name)
    there = landmarks.one(found) is not None and found not in gallery.removed_landmarks
    if not there and all(as_compared(each.landmark) != found for each in gallery.added.values()):
        raise GalleryError(
            f"{name!r}: no landmark of the index or of {gallery.folder} is called so; nothing was removed"
        )
    return LandmarkRemoved(landmark=found)
