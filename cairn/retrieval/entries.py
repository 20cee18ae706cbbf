"""What is known of each indexed photo: one uncompressed Arrow file, mapped into memory and read where it is asked for.

Opening costs no work for each row, and several processes share its pages.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cairn.files import written_aside
from cairn.manifest import as_image_id, as_number, as_numbers

ENTRIES_FILE = "entries.arrow"
ADDED_PHOTOS = "photos"  # a shard below this folder lies in the served version's own; others where the pipeline's lie

TEXT = pa.dictionary(pa.int32(), pa.string())  # few values, many rows
ENTRIES = pa.schema(
    [
        pa.field("image_id", pa.int64(), nullable=False),  # as `cairn.manifest.as_number` makes it; rising
        pa.field("landmark_id", pa.int64(), nullable=False),
        pa.field("source_name", pa.large_string(), nullable=False),
        pa.field("author", TEXT),
        pa.field("licence", TEXT),
        pa.field("shard", TEXT, nullable=False),
        pa.field("offset", pa.int64(), nullable=False),  # of the photo's first byte in the shard
        pa.field("size", pa.int64(), nullable=False),  # bytes
    ]
)


class EntriesError(ValueError):
    """Entries that cannot be written or opened."""


class Entry(NamedTuple):
    """One indexed photo."""

    image_id: str
    landmark_id: int
    source_name: str
    author: str | None
    licence: str | None
    shard: str
    offset: int
    size: int


class Entries:
    """The rows of one index, by position and by image id."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        """`batch` has the columns of ENTRIES."""
        self._batch = batch
        self.image_ids, self.landmark_ids = _numbers(batch["image_id"]), _numbers(batch["landmark_id"])
        self.sizes = _numbers(batch["size"])

    @classmethod
    def open(cls, path: Path) -> Entries:
        """Map what `write_entries` wrote. Raises EntriesError if it is missing or something else."""
        try:
            with pa.ipc.open_file(pa.memory_map(str(path))) as file:
                if file.num_record_batches != 1 or not file.schema.equals(ENTRIES):
                    raise EntriesError(f"{path}: not the entries of an index; run `dvc repro` to make them again")
                return cls(file.get_batch(0))
        except FileNotFoundError as error:
            raise EntriesError(f"{path}: no such file; run `dvc repro`") from error
        except pa.ArrowInvalid as error:
            raise EntriesError(f"{path}: not a whole Arrow file ({error}); run `dvc repro` to make it again") from error

    def __len__(self) -> int:
        return int(self._batch.num_rows)

    @property
    def table(self) -> pa.Table:
        """All rows, with the columns of ENTRIES; nothing is copied."""
        return pa.Table.from_batches([self._batch])

    def rows(self, image_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions of images, int64 of any shape; only meaningful for those that are there."""
        return np.searchsorted(self.image_ids, image_ids).clip(0, max(0, len(self) - 1)).astype(np.int64)

    def at(self, row: int) -> Entry:
        """The photo at a position."""
        _, *values = (column[row].as_py() for column in self._batch.columns)
        return Entry(as_image_id(int(self.image_ids[row])), *values)

    def attributions(self, rows: NDArray[np.int64]) -> list[str]:
        """Author and licence, whichever there is, of the photos at positions [n]."""
        columns = (self._batch[name] for name in ("author", "licence"))
        texts = (column.dictionary.take(column.indices.take(pa.array(rows))).to_pylist() for column in columns)
        return [", ".join(filter(None, pair)) for pair in zip(*texts, strict=True)]

    def find(self, image_id: str) -> Entry | None:
        """The photo of an image id (16 hexadecimal characters); none if the index has no such photo."""
        try:
            number = as_number(image_id)
        except ValueError:
            return None
        if not len(self) or not -(1 << 63) <= number < 1 << 63:
            return None
        row = int(self.rows(np.array(number)))
        return self.at(row) if self.image_ids[row] == number else None

    def landmarks(self) -> NDArray[np.int64]:
        """Those of any photo, int64, rising."""
        return np.sort(_numbers(pc.unique(self._batch["landmark_id"])))


def _numbers(column: pa.Array) -> NDArray[np.int64]:
    """A column's numbers where they lie. Arrow's own way of doing this imports pandas, if it is there."""
    return np.frombuffer(column.buffers()[1], np.int64, len(column), 8 * column.offset)


def entries_of(images: pa.Table) -> pa.Table:
    """Rows of the manifest that show landmarks, as entries sorted by image number."""
    numbers = pa.array(as_numbers(images["image_id"]))
    columns = [numbers, *(images[name] for name in ENTRIES.names[1:])]
    return pa.table(columns, names=ENTRIES.names).sort_by("image_id")


def write_entries(path: Path, table: pa.Table) -> None:
    """Write rows with the columns of ENTRIES; equal rows give the same bytes.

    Raises EntriesError if there is no row, or image ids do not rise.
    """
    if table.num_rows == 0:
        raise EntriesError(f"{path}: an index without a photo answers nothing")
    ids = table["image_id"].to_numpy()
    if (ids[1:] <= ids[:-1]).any():
        raise EntriesError(f"{path}: image ids must rise, each once")
    # Joined chunks and taken rows carry dictionaries of their own: as plain text first, each value gets its place anew.
    plain = pa.schema([field.with_type(_plain(field.type)) for field in ENTRIES])
    columns = [column.combine_chunks() for column in table.select(ENTRIES.names).cast(plain).columns]
    encoded = [
        column.dictionary_encode() if pa.types.is_dictionary(field.type) else column
        for column, field in zip(columns, ENTRIES, strict=True)
    ]
    batch = pa.RecordBatch.from_arrays(encoded, schema=ENTRIES)
    with written_aside(path) as aside, pa.ipc.new_file(str(aside), ENTRIES) as file:
        file.write_batch(batch)


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind
