"""Add photos of a landmark to the gallery. Folders are walked; `cairn publish` then brings them into the served index.

NAME is the name of a landmark of the index, or of a new one. A photo that is there already is passed over; a broken one
is refused, and the others are added.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cairn.answering.preprocess import Preprocessing
from cairn.client.given import found_in
from cairn.files import written_aside
from cairn.gallery.building import SHARD_BYTES, Names, plan
from cairn.gallery.changes import Addition, Gallery, Photo, open_gallery, write_change
from cairn.gallery.embeddings import PREPROCESS
from cairn.gallery.locking import GalleryError, locked
from cairn.gallery.options import add_gallery, refused_as_message
from cairn.gallery.versions import EXPORTED, MODEL
from cairn.manifest import image_id_of
from cairn.names import as_compared
from cairn.photos import DecodeError, decode
from cairn.retrieval.entries import ENTRIES_FILE, Entries, Entry
from cairn.serving.preparing import MAX_PHOTO_MB, preprocessing_of
from cairn.shards import ShardReader, write_shards


class Candidate(NamedTuple):
    """A file that holds a photo."""

    path: Path
    sha256: str

    @property
    def image_id(self) -> str:
        """By its bytes: the same photo has the same id, wherever it lies."""
        return image_id_of(f"sha256:{self.sha256}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line of `cairn add`."""
    parser.add_argument("landmark", metavar="NAME", help="the landmark that the photos show")
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="an image file, or a folder of them")
    parser.add_argument("--author", help="who took the photos; shown beside them")
    parser.add_argument("--licence", help="under which they may be shown, as CC-BY-4.0")
    parser.add_argument(
        "--index-photos",
        type=Path,
        default=Path("build", "clean"),
        metavar="FOLDER",
        help="where the shards of the exported index lie, if they are there: a photo that it has is not added again "
        "(default: build/clean)",
    )
    add_gallery(parser)


def run(args: argparse.Namespace) -> int:
    """Add and print. Status 0, 1 if some photo was refused, 2 if nothing could be added."""
    return refused_as_message("add", lambda: add(args))


def add(args: argparse.Namespace) -> int:
    """Raises GalleryError, or what opening the exported files raises, before anything is written."""
    name = as_compared(args.landmark)
    if not name or not name.isprintable():
        raise GalleryError(f"{args.landmark!r} is no name of a landmark")
    base = args.repository / MODEL / str(EXPORTED)
    landmarks, entries = Names.of(base), Entries.open(base / ENTRIES_FILE)
    how = preprocessing_of(args.repository / PREPROCESS)
    with locked(args.gallery):
        gallery = open_gallery(args.gallery)
        known = landmarks.one(name) is not None or name in gallery.landmark_ids  # or an error, before a change is made
        paths = [path for given in args.photos for path in found_in(given)]
        indexed = IndexedPhotos(entries, ~plan(gallery, entries, landmarks).removed, args.index_photos)
        chosen, refused = choose(paths, gallery, indexed, how)
        if chosen:
            add_photos(gallery, name, chosen, args.author, args.licence)
            print(f"{len(chosen)} photo(s) of {name}, {'known' if known else 'a new landmark'}, are in {args.gallery}")
            if not known:
                _hint(name, landmarks, gallery)
            print("`cairn publish` brings them into the index")
    return int(refused > 0)


class IndexedPhotos:
    """The photos of the exported index that were not removed, found by their bytes."""

    def __init__(self, entries: Entries, kept: NDArray[np.bool_], folder: Path) -> None:
        """`kept` bool [entries]; `folder` is the shards', and may be missing: then nothing is found."""
        self._entries, self._kept = entries, kept
        self._reader = ShardReader(folder) if folder.is_dir() else None

    def find(self, content: bytes) -> Entry | None:
        """The photo with these bytes. Raises ShardError if the shards are not the index's."""
        if self._reader is None:
            return None
        for row in np.flatnonzero((self._entries.sizes == len(content)) & self._kept).tolist():
            entry = self._entries.at(row)
            if self._reader.read(entry.shard, entry.offset, entry.size) == content:
                return entry
        return None


def choose(
    paths: list[Path], gallery: Gallery, indexed: IndexedPhotos, how: Preprocessing
) -> tuple[list[Candidate], int]:
    """Those of `paths` to add, and how many were refused; why not the others is printed."""
    chosen: dict[str, Candidate] = {}
    refused = 0
    for path in paths:
        try:
            content = _checked(path, how)
        except (DecodeError, OSError) as error:
            refused += 1
            print(f"{path}: refused: {error.strerror if isinstance(error, OSError) else error}", file=sys.stderr)
            continue
        candidate = Candidate(path, hashlib.sha256(content).hexdigest())
        image_id, known = candidate.image_id, indexed.find(content)
        if known is not None:
            print(f"{path}: there already, as photo {known.image_id} of landmark {known.landmark_id}")
        elif image_id in gallery.added:
            there = gallery.added[image_id].landmark
            print(f"{path}: there already, as photo {image_id} of {there}")
        elif image_id in chosen:
            print(f"{path}: the same photo as {chosen[image_id].path}")
        else:
            chosen[image_id] = candidate
            print(f"{path}: photo {image_id}")
    return list(chosen.values()), refused


def _checked(path: Path, how: Preprocessing) -> bytes:
    """The photo's bytes. Raises DecodeError if the server would refuse the photo, OSError if it cannot be read."""
    if path.is_dir():
        raise DecodeError("no image files in this folder")
    size = path.stat().st_size
    if size > MAX_PHOTO_MB * 1e6:
        raise DecodeError(f"{size / 1e6:.1f} MB, over the limit of {MAX_PHOTO_MB} MB")
    content = path.read_bytes()
    decode(content, how.short_side, how.max_megapixels)
    return content


def add_photos(
    gallery: Gallery, landmark: str, chosen: list[Candidate], author: str | None, licence: str | None
) -> None:
    """Write a change with the photos, whole or not at all. Raises GalleryError if one is another file by now."""
    with written_aside(gallery.next_change) as folder:
        members = write_shards(_contents(chosen), folder, SHARD_BYTES)
        photos = tuple(
            Photo(
                image_id=candidate.image_id,
                source_name=os.fsencode(candidate.path.name).decode(errors="replace"),
                author=author,
                licence=licence,
                shard=member.shard,
                offset=member.offset,
                size=member.size,
            )
            for candidate, member in zip(chosen, members, strict=True)
        )
        write_change(folder, Addition(landmark=landmark, landmark_id=gallery.own_id(landmark), photos=photos))


def _contents(chosen: list[Candidate]) -> Iterator[tuple[str, bytes]]:
    for candidate in chosen:
        content = candidate.path.read_bytes()
        if hashlib.sha256(content).hexdigest() != candidate.sha256:
            raise GalleryError(f"{candidate.path}: changed while it was added; nothing was added, try again")
        yield candidate.image_id, content


def _hint(name: str, landmarks: Names, gallery: Gallery) -> None:
    """A new landmark may be a known one that was spelt in another way."""
    known = {each.casefold(): each for each in (*landmarks.ids, *gallery.landmark_ids)}
    alike = difflib.get_close_matches(name.casefold(), known, n=3, cutoff=0.8)
    if alike:
        print(f"names like it: {', '.join(known[each] for each in alike)}")
