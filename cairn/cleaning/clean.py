"""The whole of cleaning: every reason in turn, and the kept photos written into shards of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cairn.cleaning.classes import drop_small_classes
from cairn.cleaning.identical import drop_identical
from cairn.cleaning.inspection import Look, inspect
from cairn.cleaning.near import Pairs, drop_near, pairs_by_embedding, pairs_by_hash
from cairn.cleaning.reasons import REASONS, Dropped
from cairn.cleaning.scenes import drop_indoor
from cairn.cleaning.shapes import drop_by_shape
from cairn.cleaning.suspects import SUSPECTS, suspects
from cairn.files import write_table
from cairn.manifest import IMAGES, read_images, read_landmarks, write_images, write_landmarks
from cairn.params import CleanParams
from cairn.progress import progress
from cairn.shards import ShardReader, write_shards

PAIRS = pa.schema(
    [("image_a", pa.string()), ("image_b", pa.string()), ("kind", pa.string()), ("measure", pa.float64())]
)
DROPPED = pa.schema([("image_id", pa.string()), ("reason", pa.string()), ("evidence", pa.string())])

Embed = Callable[[pa.Table], NDArray[np.float32]]  # rows of the raw manifest -> unit vectors [rows, dimensions]
Vote = Callable[[pa.Table], NDArray[np.int64]]  # rows of the raw manifest -> outdoor votes [rows]


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
class Remaining:
    """The photos not yet dropped: their looks, without pictures, and their rows of the raw manifest."""

    looks: list[Look]
    images: pa.Table

    def without(self, dropped: Dropped) -> Remaining:
        """What is left when `dropped` is taken away."""
        kept = [look.image_id not in dropped for look in self.looks]
        return Remaining(
            [look for look, k in zip(self.looks, kept, strict=True) if k], self.images.filter(pa.array(kept))
        )


def clean(raw: Path, out: Path, stash: Path, params: CleanParams, embed: Embed | None, vote: Vote | None) -> Cleaned:
    """Write `out`: cleaned shards, images.parquet, landmarks.parquet, dropped, pairs and suspects tables.

    stash: a file for resized photos while they wait to be written
    embed: finds near duplicates by cosine, and neighbours that doubt a label; none: hash alone finds near duplicates
    vote: counts outdoor scenes; none: no photo is dropped as indoor

    Raises CleaningError if labels are to be doubted without `embed`, or if kept and dropped photos are not together
    what was fetched.
    """
    if params.label_noise.method != "off" and embed is None:
        raise CleaningError(
            f"clean.label_noise.method is {params.label_noise.method}, which needs a pretrained network: name one with "
            "clean.near_duplicates.backbone and .weights (they follow train.*), or set clean.label_noise.method to off"
        )
    images = read_images(raw).sort_by("image_id")
    looks, stashed = looked_at(raw, images, stash, params)
    labels: dict[str, int | None] = dict(
        zip(images["image_id"].to_pylist(), images["landmark_id"].to_pylist(), strict=True)
    )
    dropped: Dropped = {}
    left = Remaining(looks, images)

    def drop(more: Dropped) -> Remaining:
        dropped.update(more)
        return left.without(more)

    left = drop(drop_by_shape(left.looks, params))
    if vote is not None:
        left = drop(drop_indoor(left.looks, vote(left.images), params.scenes))
    left = drop(drop_identical(left.looks, labels))
    near = params.near_duplicates
    by_hash = pairs_by_hash(left.looks, max(near.group_bits, near.drop_bits))
    compared = left.looks
    vectors = embed(left.images) if embed is not None else np.zeros((len(compared), 0), np.float32)
    by_embedding = Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    if embed is not None:
        by_embedding = pairs_by_embedding(vectors, min(near.group_cosine, near.drop_cosine))
    left = drop(drop_near(left.looks, labels, by_hash, by_embedding, near))
    left = drop(drop_small_classes([look.image_id for look in left.looks], labels, params.min_class_size))
    if left.images.num_rows + len(dropped) != images.num_rows:
        raise CleaningError(f"{left.images.num_rows} kept and {len(dropped)} dropped of {images.num_rows} photos")
    write_kept(raw, out, left.images, stash, stashed, params.shard_mb)
    write_dropped(out, dropped)
    grouped = {
        "hash": by_hash.where(by_hash.measure <= near.group_bits),
        "embedding": by_embedding.where(by_embedding.measure >= near.group_cosine),
    }
    counted = write_pairs(out, grouped, compared, dropped)
    doubted = SUSPECTS.empty_table()
    if params.label_noise.method != "off":
        kept = np.array([look.image_id not in dropped for look in compared])
        doubted = suspects(raw, left.images, vectors[kept], _among(grouped.values(), kept), params)
    write_table(out / "suspects.parquet", doubted)
    reasons = {reason: sum(1 for r, _ in dropped.values() if r == reason) for reason in REASONS}
    return Cleaned(left.images.num_rows, len(dropped), reasons, counted, _by_kind(doubted, labels))


def _among(grouped: Iterable[Pairs], kept: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The pairs of kept photos, as rows of what is kept, int64 [pairs, 2]."""
    rows = np.concatenate([np.stack([pairs.a, pairs.b], axis=1) for pairs in grouped])
    number = np.cumsum(kept) - 1
    among: NDArray[np.int64] = number[rows[kept[rows].all(axis=1)]]
    return among


def _by_kind(doubted: pa.Table, labels: Mapping[str, int | None]) -> dict[str, int]:
    distractors = sum(labels[image_id] is None for image_id in doubted["image_id"].to_pylist())
    return {"landmark_photos": doubted.num_rows - distractors, "distractors": distractors}


def looked_at(
    raw: Path, images: pa.Table, stash: Path, params: CleanParams
) -> tuple[list[Look], dict[str, tuple[int, int]]]:
    """A look at every photo; resized ones are appended to `stash`, and their offset and size there given by id."""
    looks, stashed = [], {}
    with stash.open("wb") as file:
        for look in inspect(raw, images, params):
            if look.encoded is not None:
                stashed[look.image_id] = (file.tell(), len(look.encoded))
                file.write(look.encoded)
            looks.append(replace(look, encoded=None))
    return looks, stashed


def write_kept(
    raw: Path, out: Path, kept: pa.Table, stash: Path, stashed: dict[str, tuple[int, int]], shard_mb: float
) -> None:
    """The cleaned shards and manifest. A photo that was not resized keeps its original bytes."""
    rows = kept.select(["image_id", "shard", "offset", "size"]).to_pylist()
    with ExitStack() as stack:
        reader = stack.enter_context(ShardReader(raw))
        resized = stack.enter_context(ShardReader(stash.parent))

        def contents() -> Iterator[tuple[str, bytes]]:
            for row in progress(rows, "write kept photos"):
                image_id = row["image_id"]
                if image_id in stashed:
                    yield image_id, resized.read(stash.name, *stashed[image_id])
                else:
                    yield image_id, reader.read(row["shard"], row["offset"], row["size"])

        members = list(write_shards(contents(), out, int(shard_mb * 1e6)))
    placed = kept.drop_columns(["shard", "offset", "size"])
    for name in ("shard", "offset", "size"):
        values = [getattr(member, name) for member in members]
        placed = placed.append_column(name, pa.array(values, IMAGES.field(name).type))
    write_images(out, placed)
    landmarks = read_landmarks(raw)
    shown = pc.is_in(landmarks["landmark_id"], value_set=pc.unique(kept["landmark_id"].combine_chunks()))
    write_landmarks(out, landmarks.filter(shown))


def write_dropped(out: Path, dropped: Dropped) -> None:
    """dropped.parquet: image id, reason, evidence, by image id."""
    rows = [{"image_id": i, "reason": reason, "evidence": said} for i, (reason, said) in sorted(dropped.items())]
    write_table(out / "dropped.parquet", pa.Table.from_pylist(rows, schema=DROPPED))


def write_pairs(out: Path, grouped: dict[str, Pairs], looks: list[Look], dropped: Dropped) -> dict[str, int]:
    """pairs.parquet: kept photos that must not be divided; how many of each kind.

    Two photos that were near a dropped third are not a pair for that alone.
    """
    rows = []
    for kind, pairs in grouped.items():
        for a, b, measure in _named(pairs, looks):
            if a not in dropped and b not in dropped:
                rows.append({"image_a": a, "image_b": b, "kind": kind, "measure": measure})
    write_table(out / "pairs.parquet", pa.Table.from_pylist(rows, schema=PAIRS))
    return {kind: sum(row["kind"] == kind for row in rows) for kind in grouped}


def _named(pairs: Pairs, looks: list[Look]) -> Iterable[tuple[str, str, float]]:
    for a, b, measure in zip(pairs.a.tolist(), pairs.b.tolist(), pairs.measure.tolist(), strict=True):
        yield looks[a].image_id, looks[b].image_id, measure
