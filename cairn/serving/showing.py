"""Photos of the index by their ids: the work of the Triton model `photo`, and what `verify` compares with."""

from __future__ import annotations

import os
from pathlib import Path

from cairn.gallery.versions import versions_of
from cairn.locations import Location, Readers
from cairn.retrieval.entries import ADDED_PHOTOS, ENTRIES_FILE, Entries, EntriesError
from cairn.serving.command import PHOTOS_VARIABLE
from cairn.shards import ShardError

WAY_OUT = f"start the server with --photos FOLDER (or {PHOTOS_VARIABLE}), the folder of the index's shards"


class UnknownPhoto(ValueError):
    """An id that is no photo's of the index."""


class PhotosUnavailable(RuntimeError):
    """Photos that this server was not given, or that are not those of its index; the message says the way out."""


class IndexPhotos:
    """The photos of the index, in each version of it that lies in the repository."""

    def __init__(self, retrieve: Path, photos: Path | None) -> None:
        """`retrieve` is the model's folder, with a folder for each version; `photos` holds the pipeline's shards."""
        self._retrieve, self._photos = retrieve, photos
        self._entries: dict[int, Entries] = {}
        self._readers = Readers()

    @classmethod
    def of_server(cls, repository: Path) -> IndexPhotos:
        """Those that this server was given: the folder that CAIRN_INDEX_PHOTOS names."""
        folder = os.environ.get(PHOTOS_VARIABLE)
        return cls(repository / "retrieve", Path(folder) if folder else None)

    def find(self, image_id: str, version: int | None = None) -> Location:
        """Where a photo lies, by its id of 16 hexadecimal characters, in a version of the index; none: in the newest.

        A photo of the pipeline has the same place in every version.
        Raises UnknownPhoto, or PhotosUnavailable if the version is gone or the server was given no photos.
        """
        version = self._newest() if version is None else version
        entry = self._opened(version).find(image_id)
        if entry is None:
            raise UnknownPhoto(f"image id {image_id!r}: version {version} of the index has no such photo")
        if Path(entry.shard).parts[0] == ADDED_PHOTOS:
            return Location(self._retrieve / str(version), entry.shard, entry.offset, entry.size)
        if self._photos is None:
            raise PhotosUnavailable(f"this server was not given the index's photos; {WAY_OUT}")
        return Location(self._photos, entry.shard, entry.offset, entry.size)

    def read(self, place: Location) -> bytes:
        """The photo's bytes, an image file. Raises PhotosUnavailable if its shard is missing or outside the folder."""
        try:
            return self._readers.read(place)
        except ShardError as error:
            raise PhotosUnavailable(f"{error}; {WAY_OUT}") from error

    def _newest(self) -> int:
        versions = versions_of(self._retrieve)
        if not versions:
            raise PhotosUnavailable(f"{self._retrieve}: holds no version of the index; run `make repro`")
        return versions[-1]

    def _opened(self, version: int) -> Entries:
        if version not in self._entries:
            self._forget_removed()
            path = self._retrieve / str(version) / ENTRIES_FILE
            try:
                self._entries[version] = Entries.open(path)
            except EntriesError as error:
                raise PhotosUnavailable(f"version {version} of the index cannot be opened: {error}") from error
        return self._entries[version]

    def _forget_removed(self) -> None:
        """Close what belongs to versions that are gone, so that their disk is freed."""
        self._entries = {v: each for v, each in self._entries.items() if (self._retrieve / str(v)).exists()}
        self._readers.forget_removed()
