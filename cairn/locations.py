"""Where photos lie in their shards, and their bytes from there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from sys import intern

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cairn.shards import ShardReader


@dataclass(frozen=True, slots=True)
class Location:
    """Where a photo's bytes lie: a folder of shards, and the place in one of them."""

    root: Path
    shard: str
    offset: int
    size: int


@dataclass(frozen=True)
class Photos:
    """Photos of one side with their class numbers, -1 for a distractor."""

    locations: Sequence[Location]
    classes: NDArray[np.int64]

    def repeated(self, times: int) -> Photos:
        """All of them, one time after the other."""
        return self if times == 1 else Photos([*self.locations] * times, np.tile(self.classes, times))


def locations(root: Path, images: pa.Table) -> list[Location]:
    """Where each photo of a manifest lies; `root` is the manifest's folder."""
    columns = (images[name].to_pylist() for name in ("shard", "offset", "size"))
    # Of each shard's name one string, not one a photo: there may be millions.
    return [Location(root, intern(shard), offset, size) for shard, offset, size in zip(*columns, strict=True)]


class Readers:
    """One shard reader a folder, opened at first use, so that it can travel to a worker process."""

    def __init__(self) -> None:
        self._readers: dict[Path, ShardReader] = {}

    def read(self, at: Location) -> bytes:
        """The photo's bytes. Raises ShardError."""
        return self._readers.setdefault(at.root, ShardReader(at.root)).read(at.shard, at.offset, at.size)

    def forget_removed(self) -> None:
        """Close the shards of folders that are gone, so that their disk is freed."""
        for root in [root for root in self._readers if not root.exists()]:
            self._readers.pop(root).close()
