"""What was seen of all photos, column by column, and the resized ones: kept part by part, so that a killed run goes on.

A part is PART photos in the order in which they lie in their shards. `resized` holds the resized photos of all parts,
one after another, `looks/<number>.parquet` what was seen of one; a part counts once that table is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cairn.cleaning.inspection import THUMBNAIL, Look, inspect
from cairn.files import discard, write_table
from cairn.manifest import whole
from cairn.params import CleanParams

PART = 4096  # photos: work of about a minute
DIGEST = 32  # bytes of a SHA-256
SEEN = pa.schema(
    [
        ("error", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("pixels", pa.binary(DIGEST)),
        ("perceptual_hash", pa.uint64()),
        ("thumbnail", pa.binary(THUMBNAIL**2)),
        ("offset", pa.int64()),  # in `resized`
        ("size", pa.int64()),  # 0: the photo was not resized
    ]
)


@dataclass(frozen=True)
class Looks:
    """What `inspection.Look` says of one photo, of all of a manifest, row by row. All zero for a photo with an error.

    errors: of the rows that could not be decoded
    widths, heights: int32 [photos]
    pixels: SHA-256 as bytes, uint8 [photos, DIGEST]
    hashes: perceptual, uint64 [photos]
    thumbnails: uint8 [photos, THUMBNAIL^2]; may be a file that is mapped into memory
    offsets, sizes: of the resized photo in `resized`, int64 [photos]; size 0: the original bytes are kept
    """

    errors: dict[int, str]
    widths: NDArray[np.int32]
    heights: NDArray[np.int32]
    pixels: NDArray[np.uint8]
    hashes: NDArray[np.uint64]
    thumbnails: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    resized: Path


def looked_at(raw: Path, images: pa.Table, keep: Path, params: CleanParams) -> Looks:
    """A look at every photo of the manifest `images`. What is whole in `keep` is not made again."""
    order = _as_they_lie(images)
    parts = [order[start : start + PART] for start in range(0, len(order), PART)]
    resized = keep / "resized"
    resized.parent.mkdir(parents=True, exist_ok=True)
    files = [keep / "looks" / f"{number:06d}.parquet" for number in range(len(parts))]
    done, end = _whole_parts(files, resized)
    if done < len(parts):
        with resized.open("r+b" if resized.exists() else "w+b") as stash:
            stash.truncate(end)
            stash.seek(end)
            left = images.select(["image_id", "shard", "offset", "size"]).take(pa.array(order[done * PART :]))
            looks = inspect(raw, left, params)
            for path in files[done:]:
                write_table(path, _stored(list(islice(looks, PART)), stash))
            next(looks, None)  # lets go of its processes
    return _gathered(files, parts, keep)


def _as_they_lie(images: pa.Table) -> NDArray[np.int64]:
    """Rows by shard and offset, int64 [photos]: shards are read from end to end."""
    shards = whole(images["shard"]).dictionary_encode()
    place = np.argsort(np.argsort(shards.dictionary.to_numpy(zero_copy_only=False)))[shards.indices.to_numpy()]
    return np.lexsort((images["offset"].to_numpy(), place)).astype(np.int64)


def _whole_parts(files: list[Path], resized: Path) -> tuple[int, int]:
    """How many parts are there, and where the last of them ends in `resized`; none if that file is not so long."""
    done = next((number for number, path in enumerate(files) if not path.exists()), len(files))
    ends = [pc.max(pc.add(seen["offset"], seen["size"])).as_py() for seen in map(pq.read_table, files[:done][-1:])]
    end = max(ends, default=0)
    if end <= (resized.stat().st_size if resized.exists() else 0):
        return done, end
    for path in files:
        discard(path)
    return 0, 0


def _stored(looks: list[Look], stash: IO[bytes]) -> pa.Table:
    """The looks of a part as SEEN; their resized photos are appended to `stash`."""
    nothing = bytes(DIGEST), bytes(THUMBNAIL**2)
    columns: dict[str, list[object]] = {name: [] for name in SEEN.names}
    for look in looks:
        encoded = look.encoded or b""
        row = (
            look.error,
            look.width,
            look.height,
            bytes.fromhex(look.pixels) or nothing[0],
            look.perceptual_hash,
            look.thumbnail or nothing[1],
            stash.tell(),
            len(encoded),
        )
        stash.write(encoded)
        for column, value in zip(columns.values(), row, strict=True):
            column.append(value)
    stash.flush()
    return pa.table(columns, schema=SEEN)


def _mapped(path: Path, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Zeros in a new file that is mapped into memory. They are written first: in a map, a full disk would be SIGBUS."""
    with path.open("wb") as file:
        for _ in range(shape[0]):
            file.write(bytes(shape[1]))
    return np.memmap(path, np.uint8, "r+", shape=shape)


def _gathered(files: list[Path], parts: list[NDArray[np.int64]], keep: Path) -> Looks:
    count = sum(map(len, parts))
    small = _mapped(keep / "thumbnails", (max(1, count), THUMBNAIL**2))
    looks = Looks(
        errors={},
        widths=np.zeros(count, np.int32),
        heights=np.zeros(count, np.int32),
        pixels=np.zeros((count, DIGEST), np.uint8),
        hashes=np.zeros(count, np.uint64),
        thumbnails=small[:count],
        offsets=np.zeros(count, np.int64),
        sizes=np.zeros(count, np.int64),
        resized=keep / "resized",
    )
    for path, rows in zip(files, parts, strict=True):
        seen = pq.read_table(path)
        for column, name in (
            (looks.widths, "width"),
            (looks.heights, "height"),
            (looks.hashes, "perceptual_hash"),
            (looks.offsets, "offset"),
            (looks.sizes, "size"),
        ):
            column[rows] = seen[name].to_numpy()
        for square, name in ((looks.pixels, "pixels"), (looks.thumbnails, "thumbnail")):
            square[rows] = np.frombuffer(whole(seen[name]).buffers()[1], np.uint8).reshape(len(rows), -1)
        broken = np.flatnonzero(pc.not_equal(seen["error"], "").to_numpy())
        looks.errors.update(zip(rows[broken].tolist(), seen["error"].take(pa.array(broken)).to_pylist(), strict=True))
    return looks
