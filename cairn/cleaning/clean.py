"""The whole of cleaning: every reason in turn, and the kept photos written into shards of their own.

A photo is known by its row of the raw manifest in order of image id. Everything is held column by column: at the size
of Google Landmarks v2 a Python object a photo would take many times the memory.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cairn.cleaning.classes import drop_small_classes
from cairn.cleaning.identical import drop_identical
from cairn.cleaning.looks import Looks, looked_at
from cairn.cleaning.near import NOTHING, Pairs, drop_near, pairs_by_embedding, pairs_by_hash
from cairn.cleaning.neighbours import Doubts
from cairn.cleaning.reasons import REASONS, SMALL_CLASS, Dropped
from cairn.cleaning.scenes import doubts_by_scenes
from cairn.cleaning.shapes import drop_by_shape
from cairn.cleaning.suspects import SUSPECTS, suspects, with_indoor
from cairn.files import write_table
from cairn.manifest import (
    NONE,
    by_image_id,
    labels_of,
    read_images,
    read_landmarks,
    whole,
    write_images,
    write_landmarks,
)
from cairn.params import CleanParams
from cairn.progress import progress
from cairn.shards import Member, ShardReader, write_shards

PAIRS = pa.schema(
    [("image_a", pa.string()), ("image_b", pa.string()), ("kind", pa.string()), ("measure", pa.float64())]
)
DROPPED = pa.schema([(name, pa.string()) for name in ("image_id", "source_name", "reason", "evidence")])
BATCH = 8192  # rows of the manifest that are Python objects at a time

Embed = Callable[[pa.Table], NDArray[np.float32]]  # rows of the raw manifest -> unit vectors [rows, dimensions]
Vote = Callable[[pa.Table], NDArray[np.int64]]  # rows of the raw manifest -> outdoor votes [rows]
Rows = NDArray[np.int64]


class CleaningError(RuntimeError):
    """Counts that do not add up, or params that ask for a network there is none of."""


@dataclass(frozen=True)
class Cleaned:
    """How many photos were kept and dropped, why, how many pairs of kept ones are near duplicates, and of how many kept
    landmark photos and distractors the label is doubted.
    """

    kept: int
    dropped: int
    reasons: dict[str, int]
    pairs: dict[str, int]
    suspects: dict[str, int]


@dataclass(frozen=True)
class Judged:
    """What is decided about the photos of a manifest.

    kept: rows, int64 [kept], ascending
    dropped: the others, ascending
    grouped: pairs of rows that are near duplicates, by kind; of photos that were compared, dropped ones among them
    indoor: evidence by row, of those that the outdoor vote doubts
    compared: rows, int64 [compared], ascending: those that were left when near duplicates were looked for
    vectors: of those, float32 [compared, dimensions]; of no dimensions without a network
    """

    kept: Rows
    dropped: Dropped
    grouped: dict[str, Pairs]
    indoor: Doubts
    compared: Rows
    vectors: NDArray[np.float32]


def clean(raw: Path, out: Path, keep: Path, params: CleanParams, embed: Embed | None, vote: Vote | None) -> Cleaned:
    """Write `out`: cleaned shards, images.parquet, landmarks.parquet, dropped, pairs and suspects tables.

    keep: a folder for what was seen of the photos, and for resized ones while they wait to be written; a later run with
        the same photos and params goes on from what is there
    embed: finds near duplicates by cosine, and neighbours that doubt a label; none: hash alone finds near duplicates
    vote: counts outdoor scenes; none: no photo is doubted as indoor

    Raises CleaningError if labels are to be doubted without `embed`, if no landmark photo is left, or if kept and
    dropped photos are not together what was fetched.
    """
    if params.label_noise.method != "off" and embed is None:
        raise CleaningError(
            f"clean.label_noise.method is {params.label_noise.method}, which needs a pretrained network: name one with "
            "clean.near_duplicates.backbone and .weights (they follow train.*), or set clean.label_noise.method to off"
        )
    images = by_image_id(read_images(raw))
    looks = looked_at(raw, images, keep, params)
    found = judge(images, looks, params, embed, vote)
    check_left(labels_of(images), found, params.min_class_size)
    write_kept(raw, out, images, found.kept, looks, params.shard_mb)
    return write_findings(raw, out, images, found, params)


def judge(images: pa.Table, looks: Looks, params: CleanParams, embed: Embed | None, vote: Vote | None) -> Judged:
    """Which photos are dropped, each for the first reason there is, and which are near duplicates.

    images: the raw manifest in order of image id

    Raises CleaningError if kept and dropped photos are not together all.
    """
    ids, labels = whole(images["image_id"]), labels_of(images)
    dropped: list[Dropped] = []
    left = np.arange(images.num_rows)

    def drop(more: Dropped) -> Rows:
        dropped.append(more)
        return np.setdiff1d(left, more["row"].to_numpy(), assume_unique=True)

    left = drop(drop_by_shape(looks, params))
    shown = left[labels[left] != NONE]  # a photo of no landmark may be of anything
    indoor = {} if vote is None else doubts_by_scenes(shown, vote(images.take(pa.array(shown))), params.scenes)
    left = drop(drop_identical(looks.pixels, labels, left, ids))
    near = params.near_duplicates
    compared = left
    by_hash, by_embedding = pairs_by_hash(looks, compared, max(near.group_bits, near.drop_bits)), NOTHING
    vectors = np.zeros((len(compared), 0), np.float32)
    if embed is not None:
        vectors = embed(images.take(pa.array(compared)))
        found = pairs_by_embedding(vectors, min(near.group_cosine, near.drop_cosine))
        by_embedding = Pairs(compared[found.a], compared[found.b], found.measure)
    left = drop(drop_near(looks, labels, ids, by_hash, by_embedding, near))
    left = drop(drop_small_classes(labels, left, params.min_class_size))
    every = pa.concat_tables(dropped).sort_by("row")
    if len(left) + every.num_rows != images.num_rows:
        raise CleaningError(f"{len(left)} kept and {every.num_rows} dropped of {images.num_rows} photos")
    grouped = {
        "hash": by_hash.where(by_hash.measure <= near.group_bits),
        "embedding": by_embedding.where(by_embedding.measure >= near.group_cosine),
    }
    return Judged(left, every, grouped, indoor, compared, vectors)


def check_left(labels: NDArray[np.int64], found: Judged, least: int) -> None:
    """Raise CleaningError, saying why, if no landmark photo is kept; labels: int64 [photos], `least` a landmark."""
    if (labels[found.kept] != NONE).any():
        return
    small = found.dropped.filter(pc.equal(found.dropped["reason"], SMALL_CLASS))["row"].to_numpy()
    if not len(small):
        counts = ", ".join(
            f"{count['counts']} {count['values']}" for count in found.dropped["reason"].value_counts().to_pylist()
        )
        raise CleaningError(f"no landmark photo is left ({counts}); mend the source, or change the params of `clean`")
    landmarks, sizes = np.unique(labels[small], return_counts=True)
    largest, size = landmarks[sizes.argmax()], sizes.max()
    raise CleaningError(
        f"clean.min_class_size = {least} leaves no landmark: the largest one, {largest}, has {size} photos once all "
        f"else is set aside; lower it to {size}, or bring more photos, and say `dvc repro`"
    )


def write_findings(raw: Path, out: Path, images: pa.Table, found: Judged, params: CleanParams) -> Cleaned:
    """The landmarks, dropped, pairs and suspects tables."""
    kept = images.take(pa.array(found.kept)) if params.label_noise.method != "off" else None
    write_shown_landmarks(raw, out, images["landmark_id"], found.kept)
    write_dropped(out, images, found.dropped)
    stays = np.zeros(images.num_rows, bool)
    stays[found.kept] = True
    among = {kind: pairs.where(stays[pairs.a] & stays[pairs.b]) for kind, pairs in found.grouped.items()}
    write_pairs(out, images["image_id"], among)
    doubted = SUSPECTS.empty_table()
    if kept is not None:
        rows = np.concatenate([np.stack([pairs.a, pairs.b], axis=1) for pairs in among.values()])
        vectors = found.vectors[np.isin(found.compared, found.kept)]
        doubted = suspects(raw, kept, vectors, np.searchsorted(found.kept, rows), params)
    indoor = [row for row in sorted(found.indoor) if stays[row]]
    ids = images["image_id"].take(pa.array(indoor, pa.int64())).to_pylist()
    doubted = with_indoor(doubted, [(i, found.indoor[row]) for i, row in zip(ids, indoor, strict=True)])
    write_table(out / "suspects.parquet", doubted)
    reasons = dict.fromkeys(REASONS, 0)
    counts = found.dropped["reason"].value_counts().to_pylist()
    reasons |= {count["values"]: count["counts"] for count in counts}
    pairs = {kind: len(some.a) for kind, some in among.items()}
    return Cleaned(len(found.kept), found.dropped.num_rows, reasons, pairs, _by_kind(doubted, images))


def _by_kind(doubted: pa.Table, images: pa.Table) -> dict[str, int]:
    rows = pc.index_in(doubted["image_id"], value_set=whole(images["image_id"]))
    distractors = images["landmark_id"].take(rows).null_count
    return {"landmark_photos": doubted.num_rows - distractors, "distractors": distractors}


def write_kept(raw: Path, out: Path, images: pa.Table, kept: Rows, looks: Looks, shard_mb: float) -> None:
    """The cleaned shards and manifest. A photo that was not resized keeps its original bytes."""
    images = images.take(pa.array(kept))
    with ExitStack() as stack:
        reader = stack.enter_context(ShardReader(raw))
        resized = stack.enter_context(ShardReader(looks.resized.parent))

        def contents() -> Iterator[tuple[str, bytes]]:
            for image_id, shard, offset, size, at, length in places(images, looks, kept):
                if length:
                    yield image_id, resized.read(looks.resized.name, at, length)
                else:
                    yield image_id, reader.read(shard, offset, size)

        members = write_shards(progress(contents(), "write kept photos", len(kept)), out, int(shard_mb * 1e6))
        write_images(out, placed(images, members))


def places(images: pa.Table, looks: Looks, rows: Rows) -> Iterator[tuple[str, str, int, int, int, int]]:
    """Image id, shard, offset and size of each of `images` (`rows` of `looks`), offset and size of it resized."""
    columns = [images[name] for name in ("image_id", "shard", "offset", "size")]
    for start in range(0, len(rows), BATCH):
        some = rows[start : start + BATCH]
        batch = (column[start : start + BATCH].to_pylist() for column in columns)
        yield from zip(*batch, looks.offsets[some].tolist(), looks.sizes[some].tolist(), strict=True)


def placed(images: pa.Table, members: Iterable[Member]) -> pa.Table:
    """The rows of a manifest with the places of their photos in new shards."""
    shards: list[str] = []
    number, offset, size = array("i"), array("q"), array("q")
    for member in members:
        if not shards or shards[-1] != member.shard:
            shards.append(member.shard)
        number.append(len(shards) - 1)
        offset.append(member.offset)
        size.append(member.size)
    names = pa.array(shards, pa.string()).take(pa.array(np.frombuffer(number, np.int32)))
    for name, column in (("shard", names), ("offset", np.frombuffer(offset)), ("size", np.frombuffer(size))):
        values = column if isinstance(column, pa.Array) else pa.array(column.view(np.int64))
        images = images.set_column(images.column_names.index(name), name, values)
    return images


def write_shown_landmarks(raw: Path, out: Path, landmark_ids: pa.ChunkedArray, kept: Rows) -> None:
    """landmarks.parquet: those that kept photos show."""
    landmarks = read_landmarks(raw)
    shown = pc.unique(whole(landmark_ids).take(pa.array(kept)))
    write_landmarks(out, landmarks.filter(pc.is_in(landmarks["landmark_id"], value_set=shown)))


def write_dropped(out: Path, images: pa.Table, dropped: Dropped) -> None:
    """dropped.parquet: image id, its file's name, reason, evidence, by image id."""
    names = [images[name].take(dropped["row"]) for name in ("image_id", "source_name")]
    columns = [*names, dropped["reason"], dropped["evidence"]]
    write_table(out / "dropped.parquet", pa.table(columns, schema=DROPPED).combine_chunks())


def write_pairs(out: Path, image_ids: pa.ChunkedArray, among: dict[str, Pairs]) -> None:
    """pairs.parquet: kept photos that must not be divided.

    Two photos that were near a dropped third are not a pair for that alone.
    """
    ids = whole(image_ids)
    tables = [
        pa.table(
            [ids.take(pa.array(pairs.a)), ids.take(pa.array(pairs.b)), pa.repeat(kind, len(pairs.a)), pairs.measure],
            schema=PAIRS,
        )
        for kind, pairs in among.items()
    ]
    write_table(out / "pairs.parquet", pa.concat_tables(tables).combine_chunks())
