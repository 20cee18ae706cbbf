"""A new version of the index: the exported one with the gallery's changes, in a folder that the server can load."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cairn.files import link, written_aside
from cairn.gallery.changes import Added, Gallery
from cairn.gallery.embeddings import content, embedded
from cairn.gallery.locking import GalleryError
from cairn.gallery.versions import (
    EXPORTED,
    MODEL,
    Version,
    copy_code,
    copy_tree,
    exported_hash,
    network_hash,
    next_number,
    write_version,
)
from cairn.manifest import LANDMARKS, as_number, read_landmarks, write_landmarks
from cairn.names import as_compared
from cairn.retrieval.answer import ANSWER_FILE
from cairn.retrieval.building import changed
from cairn.retrieval.context import CONTEXT_FOLDER, Update, open_context, update_context
from cairn.retrieval.entries import ADDED_PHOTOS, ENTRIES, ENTRIES_FILE, Entries, write_entries
from cairn.retrieval.index import INDEX_FILE, read_index, stored_vectors, write_index
from cairn.serving.retrieving import Retriever
from cairn.shards import write_shards

SHARD_BYTES = 256_000_000


@dataclass(frozen=True)
class Names:
    """The landmarks of an index.

    table: with the columns of LANDMARKS
    ids: each name, as `as_compared` makes it, and the ids of the landmarks that are called so
    """

    table: pa.Table
    ids: dict[str, list[int]]

    @classmethod
    def of(cls, folder: Path) -> Names:
        """Those of landmarks.parquet in `folder`."""
        table = read_landmarks(folder)
        ids: dict[str, list[int]] = {}
        for landmark, name in zip(table["landmark_id"].to_pylist(), table["name"].to_pylist(), strict=True):
            ids.setdefault(as_compared(name), []).append(landmark)
        return cls(table, ids)

    def one(self, name: str) -> int | None:
        """The id of the landmark of that name, none if there is none. Raises GalleryError if there are several."""
        ids = self.ids.get(as_compared(name), [])
        if len(ids) > 1:
            raise GalleryError(
                f"{name!r}: landmarks {ids} are all called so; give them names of their own at the source"
            )
        return ids[0] if ids else None


@dataclass(frozen=True)
class Plan:
    """What a version changes of the exported index.

    removed: bool [rows of the exported index]
    added: the photos that come, in order of their numbers, and their landmarks' ids, int64 [n]
    names: of the new landmarks, by id
    """

    removed: NDArray[np.bool_]
    added: tuple[Added, ...]
    landmark_ids: NDArray[np.int64]
    names: dict[int, str]

    @property
    def image_ids(self) -> NDArray[np.int64]:
        """Of the photos that come, int64 [n]."""
        return np.array([as_number(each.photo.image_id) for each in self.added], dtype=np.int64)


def plan(gallery: Gallery, entries: Entries, landmarks: Names) -> Plan:
    """Lay the gallery's changes over the exported index.

    A landmark is found by its name; it keeps the gallery's id only where the exported index has none of its name.
    Removed photos that the index no longer has are passed over. Raises GalleryError if the exported index has given
    a landmark's id to another, or two of its landmarks have a name that the gallery uses.
    """
    photos = np.array(sorted(map(as_number, gallery.removed_photos)), dtype=np.int64)
    gone = [found for name in gallery.removed_landmarks if (found := landmarks.one(name)) is not None]
    removed = np.isin(entries.image_ids, photos) | np.isin(entries.landmark_ids, np.array(gone, dtype=np.int64))
    added = tuple(sorted(gallery.added.values(), key=lambda each: as_number(each.photo.image_id)))
    ids, names = [], {}
    taken = set(landmarks.table["landmark_id"].to_pylist())
    for each in added:
        landmark = landmarks.one(each.landmark)
        if landmark is None:
            landmark = gallery.own_id(each.landmark)
            names[landmark] = each.landmark
            if landmark in taken:
                raise GalleryError(
                    f"the exported index has a landmark {landmark}, the id of the gallery's {each.landmark!r}; the "
                    "pipeline's ids must be under a million million"
                )
        ids.append(landmark)
    return Plan(removed, added, np.array(ids, dtype=np.int64), names)


def publish(repository: Path, gallery: Gallery) -> tuple[int, Version]:
    """Write the next version beside the others, whole or not at all; its number, and what it holds.

    Raises GalleryError, PhotoIndexError if the index's type cannot remove photos, and what the exported files raise.
    """
    base = repository / MODEL / str(EXPORTED)
    entries, landmarks = Entries.open(base / ENTRIES_FILE), Names.of(base)
    planned = plan(gallery, entries, landmarks)
    if len(entries) - int(planned.removed.sum()) + len(planned.added) == 0:
        raise GalleryError("no photo would be left in the index; `cairn add` some before you publish")
    by_id = embedded(gallery.folder, gallery.added, repository)
    vectors = [by_id[each.photo.image_id] for each in planned.added]
    version = Version(
        network=network_hash(repository),
        exported=exported_hash(repository),
        content_of=next_number(repository),
        change=max(gallery.changes, default=0),
        added=len(planned.added),
        removed=int(planned.removed.sum()),
    )
    with written_aside(repository / MODEL / str(version.content_of)) as aside:
        aside.mkdir()
        _write(aside, base, entries, landmarks, planned, vectors)
        copy_code(repository, aside)
        write_version(aside, version)
        Retriever(aside, version.content_of)  # what cannot be opened here must not be where a server finds it
    return version.content_of, version


def _write(
    folder: Path,
    base: Path,
    entries: Entries,
    landmarks: Names,
    planned: Plan,
    rows: list[NDArray[np.float32]],
) -> None:
    link(base / ANSWER_FILE, folder / ANSWER_FILE)
    vectors = np.stack(rows) if rows else np.empty((0, read_index(base / INDEX_FILE).d), dtype=np.float32)
    update = _update(base, entries, planned, vectors)
    with TemporaryDirectory(dir=folder) as keep:
        index = changed(base / INDEX_FILE, update.removed, vectors, update.added, Path(keep))
        write_index(index, folder / INDEX_FILE)
    write_entries(folder / ENTRIES_FILE, _entries(entries, planned, folder))
    write_landmarks(folder, _landmarks(landmarks.table, planned))
    copy_tree(base / CONTEXT_FOLDER, folder / CONTEXT_FOLDER)
    update_context(folder / CONTEXT_FOLDER, update)


def _update(base: Path, entries: Entries, planned: Plan, vectors: NDArray[np.float32]) -> Update:
    """Vectors of photos in the exported index are the context's, if it has them, or what the index makes of them."""
    touched = np.union1d(entries.landmark_ids[planned.removed], planned.landmark_ids)
    kept = np.flatnonzero(np.isin(entries.landmark_ids, touched) & ~planned.removed)
    known = open_context(base / CONTEXT_FOLDER).vectors
    ids = entries.image_ids[kept]
    return Update(
        removed=entries.image_ids[planned.removed],
        added=planned.image_ids,
        vectors=vectors,
        landmark_ids=planned.landmark_ids,
        touched=touched,
        kept_vectors=known(ids) if known else stored_vectors(read_index(base / INDEX_FILE), ids),
        kept_landmark_ids=entries.landmark_ids[kept],
    )


def _entries(entries: Entries, planned: Plan, folder: Path) -> pa.Table:
    """The rows of the new index; the photos that come are written below `folder`, in shards of its own."""
    files = ((each.photo.image_id, content(each)) for each in planned.added)
    members = list(write_shards(files, folder / ADDED_PHOTOS, SHARD_BYTES)) if planned.added else []
    rows = [
        (
            number,
            landmark,
            each.photo.source_name,
            each.photo.author,
            each.photo.licence,
            f"{ADDED_PHOTOS}/{member.shard}",
            member.offset,
            member.size,
        )
        for number, landmark, each, member in zip(
            planned.image_ids.tolist(), planned.landmark_ids.tolist(), planned.added, members, strict=True
        )
    ]
    columns = zip(*rows, strict=True) if rows else ([] for _ in ENTRIES.names)
    new = pa.table(dict(zip(ENTRIES.names, columns, strict=True)), schema=ENTRIES)
    kept = entries.table.filter(pa.array(~planned.removed))
    return pa.concat_tables([kept, new]).sort_by("image_id")


def _landmarks(table: pa.Table, planned: Plan) -> pa.Table:
    new = {
        "landmark_id": list(planned.names),
        "name": list(planned.names.values()),
        "category": [None] * len(planned.names),
    }
    return pa.concat_tables([table, pa.table(new, schema=LANDMARKS)])
