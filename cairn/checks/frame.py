"""The one table that is checked: the manifest as it lies in its file, and a column in words for each derived finding.

Words, not flags, so that Data Docs and the table of breaches say what is wrong with a photo.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cairn.checks.decoding import decode_rows, sample_rows
from cairn.manifest import read_images, read_landmarks
from cairn.params import ValidateParams

DERIVED = ["order", "label", "location", "decoding", "landmark_share"]
ASCENDING = "ascending"
KNOWN = "known"
INSIDE = "inside its shard"


def checked_frame(
    raw: Path, params: ValidateParams, rng: np.random.Generator, max_megapixels: float
) -> tuple[pd.DataFrame, pa.Table]:
    """A row per photo, the manifest's columns in the file's order and DERIVED; and the landmarks' table.

    order: ASCENDING, or that the id before is greater
    label: KNOWN, or what is wrong with the landmark id; null for a distractor
    location: INSIDE, or what is wrong with shard, offset or size
    decoding: DECODED, or why not; null for a photo outside the sample
    landmark_share: of all landmark photos, from 0 to 1; on the first photo of each landmark, elsewhere null

    Raises ManifestError if a table is missing or not what its schema says.
    """
    images, landmarks = read_images(raw), read_landmarks(raw)
    frame = images.select(pq.read_schema(raw / "images.parquet").names).to_pandas(types_mapper=_nullable)
    frame["order"] = np.where(
        frame["image_id"] >= frame["image_id"].shift(fill_value=""), ASCENDING, "id before is greater"
    )
    frame["label"] = _labels(frame["landmark_id"], landmarks)
    frame["location"] = _locations(raw, frame)
    frame["decoding"] = _decodings(raw, images, frame, params, rng, max_megapixels)
    frame["landmark_share"] = _shares(frame["landmark_id"])
    return frame, landmarks


def _nullable(kind: pa.DataType) -> pd.Int64Dtype | None:
    return pd.Int64Dtype() if kind == pa.int64() else None


def _labels(landmark_ids: pd.Series, landmarks: pa.Table) -> pd.Series:
    listed = landmarks["landmark_id"].to_pandas().value_counts()
    times = landmark_ids.map(listed).fillna(0).to_numpy(dtype=np.int64)
    words = np.select([times == 1, times == 0], [KNOWN, "not in landmarks.parquet"], "twice in landmarks.parquet")
    return pd.Series(words, index=landmark_ids.index).where(landmark_ids.notna(), None)


def _locations(raw: Path, frame: pd.DataFrame) -> NDArray[np.str_]:
    lengths = {shard: _length(raw, shard) for shard in frame["shard"].unique()}
    length = frame["shard"].map(lengths).to_numpy(dtype=np.int64)
    offset, size = frame["offset"].to_numpy(dtype=np.int64), frame["size"].to_numpy(dtype=np.int64)
    # Written as a difference: offset + size of a broken manifest may not fit into 64 bits.
    wrong = [length < 0, (offset < 0) | (size < 0), (offset > length) | (size > length - np.maximum(offset, 0))]
    return np.select(wrong, ["no such shard", "offset or size below 0", "ends beyond its shard"], INSIDE)


def _length(raw: Path, shard: str) -> int:
    """Bytes of the shard, or -1 where there is none below `raw`."""
    path = (raw / shard).resolve()
    return path.stat().st_size if path.is_file() and path.is_relative_to(raw.resolve()) else -1


def _decodings(
    raw: Path,
    images: pa.Table,
    frame: pd.DataFrame,
    params: ValidateParams,
    rng: np.random.Generator,
    max_megapixels: float,
) -> pd.Series:
    """A photo that cannot be read, or is too large to be let in, does not decode and is not tried."""
    sampled = np.zeros(len(frame), bool)
    sampled[sample_rows(len(frame), params.sample, rng)] = True
    inside = (frame["location"] == INSIDE).to_numpy()
    small = (frame["size"] <= params.max_photo_mb * 1e6).to_numpy(dtype=bool)
    words = np.full(len(frame), None, object)
    words[sampled & ~small] = f"over {params.max_photo_mb:g} MB"
    words[sampled & ~inside] = frame["location"].to_numpy()[sampled & ~inside]
    rows = np.flatnonzero(sampled & inside & small)
    words[rows] = decode_rows(raw, images, rows, max_megapixels)
    return pd.Series(words, index=frame.index)


def _shares(landmark_ids: pd.Series) -> pd.Series:
    photos = landmark_ids.dropna()
    first = photos[~photos.duplicated()]
    shares = first.map(photos.value_counts()).astype("float64") / max(1, len(photos))
    return shares.reindex(landmark_ids.index)
