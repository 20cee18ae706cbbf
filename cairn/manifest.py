"""The one table that travels the whole way: a row per photo, sorted by image id. Columns, checks, reading, writing.

`images.parquet` (IMAGES) says where each photo lies in the tar shards and which landmark it shows (null: none, a
distractor). `landmarks.parquet` (LANDMARKS) names the landmarks. Later stages add tables keyed by image id; none
rewrites this one.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cairn.files import write_table

NONE = -1  # the landmark id of nothing, in arrays; real ones are 0 or more

IMAGES = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),  # 16 hexadecimal characters
        pa.field("shard", pa.string(), nullable=False),  # tar file, relative to the manifest's folder
        pa.field("offset", pa.int64(), nullable=False),  # of the photo's first byte in the shard
        pa.field("size", pa.int64(), nullable=False),  # bytes
        pa.field("landmark_id", pa.int64()),  # null: a distractor
        pa.field("source_name", pa.string(), nullable=False),  # what the source calls the photo
        pa.field("author", pa.string()),
        pa.field("licence", pa.string()),
    ]
)

LANDMARKS = pa.schema(
    [
        pa.field("landmark_id", pa.int64(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("category", pa.string()),  # where the source tells more, as a Wikimedia Commons address
    ]
)


class ManifestError(ValueError):
    """A table that is not what its schema says."""


def image_id_of(source_name: str) -> str:
    """16 hexadecimal characters (GLDv2's form) for a photo known by a name: stable when others come and go."""
    return hashlib.sha256(source_name.encode()).hexdigest()[:16]


def as_number(image_id: str) -> int:
    """The image id as the signed 64-bit number that FAISS stores; `as_image_id` is its inverse."""
    value = int(image_id, 16)
    return value - (1 << 64) if value >= 1 << 63 else value


def as_numbers(image_ids: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
    """`as_number` of each of many image ids, int64 [ids]. Raises ManifestError if one is not 16 hexadecimals."""
    ids = whole(image_ids)
    wrong = pc.index(pc.match_substring_regex(ids, r"\A[0-9a-fA-F]{16}\z"), False).as_py()
    if wrong >= 0:
        raise ManifestError(f"image id {ids[wrong]} is not 16 hexadecimal characters")
    fixed = ids.cast(pa.binary()).cast(pa.binary(16))
    letters = np.frombuffer(fixed.buffers()[1] or b"", np.uint8)[16 * fixed.offset : 16 * (fixed.offset + len(ids))]
    digits = np.where(letters > ord("9"), (letters & 7) + 9, letters - ord("0")).reshape(-1, 16)
    return np.ascontiguousarray(digits[:, ::2] << 4 | digits[:, 1::2]).view(">i8")[:, 0].astype(np.int64)


def whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column as one array."""
    if isinstance(column, pa.Array):
        return column
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays([pa.array([], column.type), *column.chunks])


def by_image_id(table: pa.Table) -> pa.Table:
    """The table in order of its image ids; one that is in order already, as manifests are, is not touched."""
    ids = whole(table["image_id"])
    return table if pc.all(pc.less_equal(ids[:-1], ids[1:])).as_py() is not False else table.sort_by("image_id")


def labels_of(images: pa.Table) -> NDArray[np.int64]:
    """The landmark ids, int64 [rows], NONE for a distractor."""
    return np.asarray(pc.fill_null(images["landmark_id"], NONE).to_numpy(), np.int64)


def names_of(landmarks: pa.Table) -> dict[int, str]:
    """The name of each landmark by its id."""
    return dict(zip(landmarks["landmark_id"].to_pylist(), landmarks["name"].to_pylist(), strict=True))


def as_image_id(number: int) -> str:
    """The image id that `as_number` made the number of."""
    return f"{number & 0xFFFFFFFFFFFFFFFF:016x}"


def write_images(folder: Path, table: pa.Table) -> None:
    """Write `images.parquet`, sorted by image id.

    Raises ManifestError if columns differ from IMAGES or an image id comes twice.
    """
    table = by_image_id(_conform(table, IMAGES, folder / "images.parquet"))
    ids = whole(table["image_id"])
    twice = pc.index(pc.equal(ids[1:], ids[:-1]), True).as_py()
    if twice >= 0:
        raise ManifestError(f"{folder / 'images.parquet'}: image id {ids[twice]} comes twice; ids must be unique")
    write_table(folder / "images.parquet", table)


def write_landmarks(folder: Path, table: pa.Table) -> None:
    """Write `landmarks.parquet`, sorted by landmark id. Raises ManifestError if columns differ from LANDMARKS."""
    write_table(folder / "landmarks.parquet", _conform(table, LANDMARKS, folder).sort_by("landmark_id"))


def read_images(folder: Path) -> pa.Table:
    """The manifest in `folder`. Raises ManifestError, naming file and columns, if it is not one."""
    return _conform(_read(folder / "images.parquet"), IMAGES, folder / "images.parquet")


def read_landmarks(folder: Path) -> pa.Table:
    """The landmarks in `folder`. Raises ManifestError as `read_images` does."""
    return _conform(_read(folder / "landmarks.parquet"), LANDMARKS, folder / "landmarks.parquet")


def _read(path: Path) -> pa.Table:
    if not path.exists():
        raise ManifestError(f"{path}: no such file; run the stage that makes it (`dvc repro` runs what is missing)")
    try:
        table = pq.read_table(path)
        table.validate(full=True)  # texts that are none, too, would only fail where they are used
        return table
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ManifestError(f"{path}: not a parquet file ({error}); run the stage that makes it again") from error


def _conform(table: pa.Table, schema: pa.Schema, path: Path) -> pa.Table:
    missing = [name for name in schema.names if name not in table.column_names]
    extra = [name for name in table.column_names if name not in schema.names]
    if missing or extra:
        raise ManifestError(f"{path}: columns missing {missing}, unknown {extra}; wanted {schema.names}")
    try:
        return table.select(schema.names).cast(schema)
    except (pa.ArrowException, ValueError) as error:
        raise ManifestError(f"{path}: {error}") from error
