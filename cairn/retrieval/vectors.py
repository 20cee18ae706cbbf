"""Unit vectors of a whole manifest, read from the embedding shards where they are asked for: never all at once."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

ROWS = 65536  # vectors worked on at a time


class UnitVectors(Protocol):
    """Unit vectors float32 [rows, dimensions]: an array, or Vectors."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and dimensions."""

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.float32]:
        """Those of rows int64 [n], float32 [n, dimensions]."""


class Vectors:
    """The unit vectors of all photos of a manifest, by row: float16 on disk, float32 when asked for.

    Opening costs a header a shard. A file's pages stay mapped once one of its rows was asked for.
    """

    def __init__(self, paths: list[Path]) -> None:
        """`paths` name the files, float16 [photos, dimensions], in the manifest's order.

        Raises FileNotFoundError if one is missing.
        """
        missing = next((path for path in paths if not path.exists()), None)
        if missing is not None:
            raise FileNotFoundError(f"{missing}: no such file; run `dvc repro embed`")
        self._files = [np.load(path, mmap_mode="r") for path in paths]
        self._starts = np.cumsum([0, *(len(file) for file in self._files)])

    @classmethod
    def open(cls, folder: Path, shards: pa.ChunkedArray) -> Vectors:
        """Those of the embed stage: `shards`, the manifest's column, names each photo's shard, in runs.

        Raises FileNotFoundError if a shard has none.
        """
        return cls([folder / f"{Path(name).stem}.npy" for name in pc.unique(shards).to_pylist()])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and dimensions. Raises IndexError without a file."""
        return len(self), self.dimensions

    @property
    def dimensions(self) -> int:
        """Of each vector. Raises IndexError without a file."""
        return int(self._files[0].shape[1])

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Unit vectors float32 [n, dimensions] of rows int64 [n], in any order."""
        found = np.empty((len(rows), self.dimensions), dtype=np.float32)
        order = np.argsort(rows, kind="stable")
        risen = rows[order]
        ends = np.searchsorted(risen, self._starts)
        for file, start, first, last in zip(self._files, self._starts, ends, ends[1:], strict=False):
            if first < last:
                found[order[first:last]] = as_unit(file[risen[first:last] - start])
        return found


def as_unit(vectors: NDArray[np.float16]) -> NDArray[np.float32]:
    """Float16 [n, dimensions] as unit vectors, float32."""
    exact = vectors.astype(np.float32)
    unit: NDArray[np.float32] = exact / np.linalg.norm(exact, axis=1, keepdims=True)
    return unit
