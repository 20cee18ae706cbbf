"""The one table that is checked: the manifest as it lies in its file, and a column in words for each derived finding.

Words, not flags, so that Data Docs and the table of breaches say what is wrong with a photo. Words that come again and
again are stored once (pandas' Categorical), so that millions of rows stay small.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cairn.checks.decoding import decode_rows, sample_rows
from cairn.manifest import read_images, read_landmarks, whole
from cairn.params import ValidateParams
from cairn.shards import stays_below

LOOKED_AT = ["image_id", "shard", "offset", "size", "landmark_id"]
DERIVED = ["order", "label", "location", "decoding", "landmark_share"]
ASCENDING = "ascending"
KNOWN = "known"
INSIDE = "inside its shard"


def checked_frame(
    raw: Path, params: ValidateParams, rng: np.random.Generator, max_megapixels: float
) -> tuple[pd.DataFrame, pa.Table]:
    """A row per photo, the manifest's columns in the file's order and DERIVED; and the landmarks' table.

    Columns of the manifest that are not LOOKED_AT are there for their names, without values.

    order: ASCENDING, or that the id before is greater
    label: KNOWN, or what is wrong with the landmark id; null for a distractor
    location: INSIDE, or what is wrong with shard, offset or size
    decoding: DECODED, or why not; null for a photo outside the sample
    landmark_share: of all landmark photos, from 0 to 1; on the first photo of each landmark, elsewhere null

    Raises ManifestError if a table is missing or not what its schema says.
    """
    images, landmarks = read_images(raw).select(LOOKED_AT), read_landmarks(raw)
    names = pq.read_schema(raw / "images.parquet").names
    images = images.set_column(1, "shard", whole(images["shard"]).dictionary_encode())
    location = _locations(raw, images)
    columns = {name: images[name] if name in LOOKED_AT else pa.nulls(images.num_rows, pa.string()) for name in names}
    columns |= {
        "order": _order(images["image_id"]),
        "label": _labels(images["landmark_id"], landmarks),
        "location": location,
        "decoding": _decodings(raw, images, location, params, rng, max_megapixels),
        "landmark_share": _shares(images["landmark_id"]),
    }
    return pa.table(columns).to_pandas(types_mapper=_nullable), landmarks


def _nullable(kind: pa.DataType) -> pd.Int64Dtype | None:
    return pd.Int64Dtype() if kind == pa.int64() else None


def _worded(codes: NDArray[np.int64], words: Sequence[str], without: NDArray[np.bool_] | None = None) -> pa.Array:
    """`words[code]` of each row, null where `without`."""
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32(), mask=without), pa.array(words, pa.string()))


def _order(image_ids: pa.ChunkedArray) -> pa.Array:
    ids = whole(image_ids)
    greater = pc.greater(ids[:-1], ids[1:]).to_numpy(zero_copy_only=False)
    return _worded(np.append(np.zeros(min(1, len(ids)), np.int64), greater), [ASCENDING, "id before is greater"])


def _labels(landmark_ids: pa.ChunkedArray, landmarks: pa.Table) -> pa.Array:
    listed, times = np.unique(landmarks["landmark_id"].to_numpy(), return_counts=True)
    row = pc.index_in(whole(landmark_ids), value_set=pa.array(listed))
    codes = pc.fill_null(row, len(listed)).to_numpy()
    kinds = np.append(np.where(times == 1, 0, 2), 1)
    words = [KNOWN, "not in landmarks.parquet", "twice in landmarks.parquet"]
    return _worded(kinds[codes], words, pc.is_null(landmark_ids).to_numpy())


def _locations(raw: Path, images: pa.Table) -> pa.Array:
    shards = whole(images["shard"])
    lengths = np.array([_length(raw, shard) for shard in shards.dictionary.to_pylist()], np.int64)
    length = lengths[shards.indices.to_numpy()]
    offset, size = images["offset"].to_numpy(), images["size"].to_numpy()
    # Written as a difference: offset + size of a broken manifest may not fit into 64 bits.
    wrong = [length < 0, (offset < 0) | (size < 0), (offset > length) | (size > length - np.maximum(offset, 0))]
    words = [INSIDE, "no such shard", "offset or size below 0", "ends beyond its shard"]
    return _worded(np.select(wrong, [1, 2, 3], 0), words)


def _length(raw: Path, shard: str) -> int:
    """Bytes of the shard, or -1 where there is none below `raw`."""
    path = raw / shard
    return path.stat().st_size if stays_below(shard) and path.is_file() else -1


def _decodings(
    raw: Path,
    images: pa.Table,
    location: pa.Array,
    params: ValidateParams,
    rng: np.random.Generator,
    max_megapixels: float,
) -> pa.Array:
    """A photo that cannot be read, or is too large to be let in, does not decode and is not tried."""
    sampled = sample_rows(images.num_rows, params.sample, rng)
    inside = location.indices.to_numpy()[sampled] == location.dictionary.index(INSIDE).as_py()
    small = images["size"].to_numpy()[sampled] <= params.max_photo_mb * 1e6
    said = np.full(len(sampled), f"over {params.max_photo_mb:g} MB", object)
    said[~inside] = location.take(pa.array(sampled[~inside])).to_pylist()
    tried = inside & small
    said[tried] = decode_rows(raw, images, sampled[tried], max_megapixels)
    words, kinds = np.unique(said.astype(str), return_inverse=True)
    codes = np.full(images.num_rows, -1)
    codes[sampled] = kinds
    return _worded(codes, words.tolist(), codes < 0)


def _shares(landmark_ids: pa.ChunkedArray) -> pa.Array:
    shown = np.flatnonzero(pc.is_valid(landmark_ids).to_numpy())
    _, first, photos = np.unique(landmark_ids.drop_null().to_numpy(), return_index=True, return_counts=True)
    shares = np.full(len(landmark_ids), np.nan)
    shares[shown[first]] = photos / max(1, len(shown))
    return pa.array(shares, from_pandas=True)
