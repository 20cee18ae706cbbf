"""Rows for bench_metadata.py: a manifest like that of Google Landmarks v2 and what a look at each photo would say.

No photos: shards are files with nothing in them, as long as the manifest says.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cairn.cleaning.inspection import THUMBNAIL
from cairn.cleaning.looks import DIGEST, PART, SEEN
from cairn.files import write_table
from cairn.manifest import IMAGES, LANDMARKS, as_image_id, write_images, write_landmarks

GLDV2_IMAGES, GLDV2_LANDMARKS, GLDV2_SHARDS = 4_132_914, 203_094, 500
# Photos a landmark are about log-normal: 38 % of the landmarks have at most 5, 57 % at most 10, the mean is 20.4.
LOG_MEAN, LOG_DEVIATION = 2.115, 1.343
# Hashes: bits hang together by a few common factors, as strongly as those of 3,915 real photos: of two of these 16
# chosen bits agree 2.5 times as often as chance has it, of both kinds.
FACTORS, STRENGTH = 3, 0.5
EXACT, NEAR, CONFLICTS, BROKEN = 0.01, 0.05, 0.0005, 0.001  # shares of the photos
BLOCK = 1 << 18  # photos whose hashes are made at a time


def make(folder: Path, images: int) -> None:
    """Write raw/ (manifest, landmarks, empty shards) and keep/looks/ below `folder`, the same for the same size."""
    rng = np.random.default_rng(0)
    labels = _labels(images, rng)
    source = _sources(labels, rng)
    (folder / "raw").mkdir(parents=True)
    table = _manifest(labels, rng)
    write_images(folder / "raw", table)
    shown = np.unique(labels)
    names = pc.binary_join_element_wise("Landmark", pa.array(shown).cast(pa.string()), " ")
    write_landmarks(folder / "raw", pa.table([shown, names, pa.nulls(len(shown), pa.string())], schema=LANDMARKS))
    _looks(folder / "keep" / "looks", table, source, rng)


def _labels(images: int, rng: np.random.Generator) -> NDArray[np.int64]:
    landmarks = max(2, images * GLDV2_LANDMARKS // GLDV2_IMAGES)
    sizes = np.maximum(1, np.exp(rng.normal(LOG_MEAN, LOG_DEVIATION, landmarks)).round().astype(int))
    more = rng.permutation(np.repeat(np.arange(landmarks), sizes - 1))
    labels = np.append(np.arange(landmarks), more)  # each has one, whatever is cut off
    return rng.permutation(np.append(labels, rng.choice(labels, max(0, images - len(labels))))[:images])


def _sources(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Which photo each one is a copy of, in part of the same landmark, int64 [photos]; most are of themselves."""
    source = np.arange(len(labels))
    copies = rng.choice(len(labels), int((EXACT + NEAR) * len(labels)), replace=False)
    order = np.argsort(labels, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    source[copies] = order[np.maximum(0, place[copies] - rng.geometric(0.3, len(copies)))]
    other = rng.random(len(copies)) < CONFLICTS / (EXACT + NEAR)
    source[copies[other]] = rng.integers(0, len(labels), int(other.sum()))
    return source


def _manifest(labels: NDArray[np.int64], rng: np.random.Generator) -> pa.Table:
    count = len(labels)
    ids = np.unique(rng.integers(0, 2**64, count + 9, dtype=np.uint64))[:count]
    image_ids = pa.array(map(as_image_id, ids.tolist()), pa.string())
    shards = max(1, count * GLDV2_SHARDS // GLDV2_IMAGES)
    shard, size = rng.integers(0, shards, count), rng.integers(20_000, 200_000, count)
    order = np.argsort(shard, kind="stable")
    blocks = np.cumsum(512 + (size[order] + 511) // 512 * 512)
    before = np.append(0, blocks)[np.searchsorted(shard[order], np.arange(shards))]
    offset = np.empty(count, np.int64)
    offset[order] = np.append(0, blocks[:-1]) - before[shard[order]] + 512
    return pa.table(
        [
            image_ids,
            pa.array([f"images_{number:03d}.tar" for number in range(shards)]).take(pa.array(shard)),
            offset,
            size,
            labels,
            pc.binary_join_element_wise("train/a/b/c/", image_ids, ".jpg", ""),
            pa.array([f"Author {number}" for number in range(50_000)]).take(pa.array(rng.integers(0, 50_000, count))),
            pa.repeat("https://creativecommons.org/licenses/by-sa/4.0/", count),
        ],
        schema=IMAGES,
    )


def hashes(count: int, rng: np.random.Generator) -> NDArray[np.uint64]:
    """64-bit codes of 32 ones, as perceptual hashes are, bit 63 always set, uint64 [count]."""
    load = rng.standard_normal((FACTORS, 64), np.float32) * STRENGTH * (np.arange(64) % 8 < 5)
    mean = np.zeros(64, np.float32)
    mean[0], mean[8] = 9, 0.8  # brightness; a sky above
    parts = []
    for start in range(0, count, BLOCK):
        some = min(BLOCK, count - start)
        waves = rng.standard_normal((some, 64), np.float32) + rng.standard_normal((some, FACTORS), np.float32) @ load
        waves += mean
        parts.append(np.packbits(waves > np.median(waves, axis=1, keepdims=True), axis=1).view(">u8")[:, 0])
    return np.concatenate(parts).astype(np.uint64)


def _looks(folder: Path, images: pa.Table, source: NDArray[np.int64], rng: np.random.Generator) -> None:
    """The parts that cleaning keeps of its look at photos."""
    count = len(source)
    copied = source != np.arange(count)
    exact = copied & (rng.random(count) < EXACT / (EXACT + NEAR))
    codes = hashes(count, rng)[source]
    for _ in range(3):  # up to three bits of a near duplicate go, and three come
        for value in (1, 0):
            bit = rng.integers(0, 63, count).astype(np.uint64)
            change = copied & ~exact & (codes >> bit & np.uint64(1) == value) & (rng.random(count) < 0.5)
            codes ^= np.where(change, np.uint64(1) << bit, np.uint64(0))
    digest = np.where(exact, source, np.arange(count))
    wide = rng.integers(300, 1600, count)
    broken = rng.random(count) < BROKEN
    size = images.column_names.index("shard"), images.column_names.index("offset")
    shard = images.column(size[0]).combine_chunks().dictionary_encode()
    names = np.array(shard.dictionary.to_pylist())
    order = np.lexsort((images.column(size[1]).to_numpy(), names[shard.indices.to_numpy()]))
    for number, start in enumerate(range(0, count, PART)):
        rows = order[start : start + PART]
        squares = _noise(source[rows])  # of a copy the same
        digests = np.zeros((len(rows), DIGEST // 8), np.uint64)
        digests[:, 0] = (digest[rows].astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        nothing = np.zeros(len(rows), np.int64)
        columns = [
            pa.array(np.where(broken[rows], "cut off", "")),
            wide[rows].astype(np.int32),
            (wide[rows] * 3 // 4).astype(np.int32),
            _binary(digests.view(np.uint8)),
            codes[rows],
            _binary(squares),
            nothing,
            nothing,
        ]
        write_table(folder / f"{number:06d}.parquet", pa.table(columns, schema=SEEN))


def _noise(seeds: NDArray[np.int64]) -> NDArray[np.uint8]:
    """A random thumbnail for each seed, uint8 [seeds, THUMBNAIL^2]: the finaliser of SplitMix64."""
    state = (seeds[:, None] * (THUMBNAIL**2 // 8) + np.arange(THUMBNAIL**2 // 8)).astype(np.uint64)
    state = (state + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (state ^ (state >> np.uint64(31))).view(np.uint8)


def _binary(rows: NDArray[np.uint8]) -> pa.Array:
    """Rows of bytes as one value each."""
    values = pa.py_buffer(np.ascontiguousarray(rows))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(rows.shape[1]), len(rows), [None, values])
