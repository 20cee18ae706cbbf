"""Whether photos decode: a seeded sample of the manifest, read from the shards and decoded by a pool of threads."""

from __future__ import annotations

import os
import warnings
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cairn.photos import DecodeError, decode
from cairn.progress import progress
from cairn.shards import ShardReader

DECODED = "decoded"
SHORT_SIDE = 64  # pixels: JPEG decodes far faster to a small picture, and a broken one shows all the same


def sample_rows(rows: int, sample: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`sample` of the row numbers 0..rows-1 without repeats, ascending; all of them where `sample` is 0 or over."""
    if sample == 0 or sample >= rows:
        return np.arange(rows)
    return np.sort(rng.choice(rows, sample, replace=False)).astype(np.int64)


def decode_rows(raw: Path, images: pa.Table, rows: NDArray[np.int64], max_megapixels: float) -> list[str]:
    """DECODED, or why not, for each of the manifest's `rows`. Every row must lie inside its shard below `raw`.

    Raises ShardError if a shard cannot be read.
    """
    chosen = images.take(pa.array(rows))
    places = list(zip(*(chosen[name].to_pylist() for name in ("shard", "offset", "size")), strict=True))
    with warnings.catch_warnings(), ShardReader(raw) as reader, ThreadPool(os.cpu_count()) as pool:
        # Set here for all threads: each would otherwise put back the filters that another one had set.
        warnings.simplefilter("ignore")
        outcomes = pool.imap(lambda place: _outcome(reader, place, max_megapixels), places, chunksize=16)
        return list(progress(outcomes, "decode photos", len(places)))


def _outcome(reader: ShardReader, place: tuple[str, int, int], max_megapixels: float) -> str:
    content = reader.read(*place)
    try:
        decode(content, SHORT_SIDE, max_megapixels)
    except DecodeError as error:
        return str(error)
    return DECODED
