"""What every source of photos is: something that fills a folder with tar shards and hands back the manifest."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

import pyarrow as pa

from cairn.manifest import IMAGES
from cairn.shards import write_shards


class Photo(NamedTuple):
    """One encoded photo as a source gives it. `landmark_id` is none for a distractor."""

    image_id: str
    content: bytes
    landmark_id: int | None
    source_name: str
    author: str | None = None
    licence: str | None = None


class Fetched(NamedTuple):
    """Tables as in `cairn.manifest`, and facts worth reporting (name -> count)."""

    images: pa.Table
    landmarks: pa.Table
    facts: dict[str, int]


class Source(Protocol):
    """Where photos come from."""

    def fetch(self, out: Path, keep: Path) -> Fetched:
        """Write tar shards below `out`. `keep` is a folder that outlives a killed run: work to be resumed goes there.

        Raises SourceError if the source cannot be read.
        """


class SourceError(RuntimeError):
    """A source that cannot be read as the params say."""


def plain(name: str) -> str:
    """A landmark's name without control characters, which would act on the terminal or the page that shows it."""
    return "".join(" " if unicodedata.category(letter) in ("Cc", "Cs") else letter for letter in name)


def pack(photos: Iterable[Photo], out: Path, shard_mb: float) -> pa.Table:
    """Write `photos` into tar shards below `out` and give the manifest's rows, in the order given."""
    seen: list[Photo] = []

    def files() -> Iterable[tuple[str, bytes]]:
        for photo in photos:
            seen.append(photo._replace(content=b""))
            yield photo.image_id, photo.content

    members = list(write_shards(files(), out, int(shard_mb * 1e6)))
    rows = [
        {
            "image_id": photo.image_id,
            "shard": member.shard,
            "offset": member.offset,
            "size": member.size,
            "landmark_id": photo.landmark_id,
            "source_name": photo.source_name,
            "author": photo.author,
            "licence": photo.licence,
        }
        for photo, member in zip(seen, members, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=IMAGES)
