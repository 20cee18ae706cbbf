"""The gallery: a folder for each change, in order of its number, whole or not there; and what they come to together.

    gallery/00001/change.json   what was added or removed
    gallery/00001/shard_*.tar   the photos that it added

A change is never rewritten. One that was a mistake is undone by another, or, if it is the last, by deleting its folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from cairn.gallery.locking import GalleryError
from cairn.names import as_compared

CHANGE_FILE = "change.json"
FIRST_ID = 10**12  # of landmarks that the gallery adds: beyond any that a pipeline gives, so that they can stay


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Photo(_Record):
    """One added photo: `shard` lies in its change's folder, `offset` and `size` are bytes."""

    image_id: str
    source_name: str
    author: str | None
    licence: str | None
    shard: str
    offset: int
    size: int


class Addition(_Record):
    """Photos of one landmark. `landmark_id` is its own where the index has no landmark of that name."""

    kind: Literal["add"] = "add"
    landmark: str
    landmark_id: int
    photos: tuple[Photo, ...]


class PhotosRemoved(_Record):
    """Photos of the index or of the gallery."""

    kind: Literal["remove_photos"] = "remove_photos"
    image_ids: tuple[str, ...]


class LandmarkRemoved(_Record):
    """All photos that a landmark has until then, in the index and in the gallery."""

    kind: Literal["remove_landmark"] = "remove_landmark"
    landmark: str


Change = Addition | PhotosRemoved | LandmarkRemoved
CHANGE: TypeAdapter[Change] = TypeAdapter(Annotated[Change, Field(discriminator="kind")])


@dataclass(frozen=True)
class Added:
    """A photo that the gallery holds now, and where."""

    photo: Photo
    landmark: str
    folder: Path  # of its change


@dataclass(frozen=True)
class Gallery:
    """What all changes come to. Names are as `as_compared` makes them.

    added: image id -> the photo
    landmark_ids: name -> the gallery's own id of it, which it keeps for good
    removed_photos: image ids of the index
    removed_landmarks: names whose photos in the index are removed
    changes: their numbers, rising
    """

    folder: Path
    added: Mapping[str, Added]
    landmark_ids: Mapping[str, int]
    removed_photos: frozenset[str]
    removed_landmarks: frozenset[str]
    changes: tuple[int, ...]

    @property
    def next_change(self) -> Path:
        """The folder of the change that comes next."""
        return self.folder / f"{max(self.changes, default=0) + 1:05d}"

    def own_id(self, landmark: str) -> int:
        """The id of a landmark by its name: the one it has, or the next free one."""
        return self.landmark_ids.get(as_compared(landmark), max(self.landmark_ids.values(), default=FIRST_ID - 1) + 1)


def read_changes(folder: Path) -> Iterator[tuple[int, Change]]:
    """Each change and its number, in order. Raises GalleryError, naming the file, if one is broken."""
    numbers = sorted(int(path.name) for path in folder.glob("[0-9]*") if path.name.isdecimal() and path.is_dir())
    for number in numbers:
        path = folder / f"{number:05d}" / CHANGE_FILE
        try:
            yield number, CHANGE.validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise GalleryError(
                f"{path}: not a change that `cairn add` or `cairn remove` wrote ({error}); bring it back from a "
                "copy, or delete its folder"
            ) from error


def open_gallery(folder: Path) -> Gallery:
    """What the changes in `folder` come to; nothing where there is no such folder. Raises GalleryError."""
    added: dict[str, Added] = {}
    ids: dict[str, int] = {}
    photos: set[str] = set()
    landmarks: set[str] = set()
    numbers = []
    for number, change in read_changes(folder):
        numbers.append(number)
        if isinstance(change, Addition):
            ids.setdefault(as_compared(change.landmark), change.landmark_id)
            for photo in change.photos:
                added[photo.image_id] = Added(photo, change.landmark, folder / f"{number:05d}")
        elif isinstance(change, PhotosRemoved):
            photos |= set(change.image_ids) - set(added)
            for image_id in change.image_ids:
                added.pop(image_id, None)
        else:
            name = as_compared(change.landmark)
            landmarks.add(name)
            added = {image_id: each for image_id, each in added.items() if as_compared(each.landmark) != name}
    return Gallery(folder, added, ids, frozenset(photos), frozenset(landmarks), tuple(numbers))


def write_change(folder: Path, change: Change) -> None:
    """Put the record into a change's folder, which is then renamed to its number."""
    (folder / CHANGE_FILE).write_text(change.model_dump_json(indent=1) + "\n", encoding="utf-8")
