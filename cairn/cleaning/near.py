"""Near duplicates: pairs of photos of one view, by perceptual hash and by embedding; which to drop, which to group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cairn.cleaning.hamming import close_pairs
from cairn.cleaning.looks import Looks
from cairn.cleaning.reasons import NEAR_DUPLICATE, Dropped, dropped
from cairn.params import NearDuplicateParams

LEAST_CORRELATION = 0.8  # of two thumbnails whose hashes are close: hashes of unlike photos do collide
BLOCK = 4096
EXACT = 200_000  # photos of which every two are compared: some minutes on two cores
PROBED, SEEN_A_LIST = 8, 64  # lists that a photo is looked for in; photos that each is trained with


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows, a < b: int64 [pairs] each, with how far apart (bits) or how alike (cosine) they are."""

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    measure: NDArray[np.float64]

    def where(self, chosen: NDArray[np.bool_]) -> Pairs:
        """The chosen pairs."""
        return Pairs(self.a[chosen], self.b[chosen], self.measure[chosen])


NOTHING = Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


def pairs_by_hash(looks: Looks, rows: NDArray[np.int64], bits: int) -> Pairs:
    """Pairs of `rows`, ascending, whose 64-bit perceptual hashes differ in at most `bits` bits and whose thumbnails
    correlate. Every such pair is found (`hamming.close_pairs`).
    """
    if bits < 0:
        return NOTHING
    rows = rows[~_flat(looks.thumbnails, rows)]  # nothing correlates with those, and their hashes are all alike
    found = close_pairs(looks.hashes[rows], bits, lambda a, b: alike(looks.thumbnails, rows[a], rows[b]))
    return Pairs(rows[found.a], rows[found.b], found.bits.astype(np.float64))


def _flat(thumbnails: NDArray[np.uint8], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Of which rows the thumbnail has one grey only, bool [rows]."""
    flat = [np.ptp(thumbnails[rows[start : start + BLOCK]], axis=1) == 0 for start in range(0, len(rows), BLOCK)]
    return np.concatenate([*flat, np.empty(0, bool)])


def alike(thumbnails: NDArray[np.uint8], a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the thumbnails of two rows correlate by LEAST_CORRELATION, bool [pairs]."""
    said = np.zeros(len(a), bool)
    for start in range(0, len(a), BLOCK):
        some = slice(start, start + BLOCK)
        # Most pairs are far from it: only those that come near are reckoned to the last digit.
        x, y = (thumbnails[side[some]].astype(np.float32) for side in (a, b))
        x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
        lengths = np.einsum("ij,ij->i", x, x) * np.einsum("ij,ij->i", y, y)
        near = np.einsum("ij,ij->i", x, y) > (LEAST_CORRELATION - 0.001) * np.sqrt(lengths)
        near = start + np.flatnonzero(near)
        said[near] = (unit(thumbnails[a[near]]) * unit(thumbnails[b[near]])).sum(axis=1) >= LEAST_CORRELATION
    return said


def unit(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Thumbnails [photos, pixels] with mean 0 and length 1, float32; all zero for one of one grey."""
    centred = pixels - pixels.mean(axis=1, keepdims=True)
    lengths = np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)
    return np.asarray(centred / lengths, np.float32)


def pairs_by_embedding(vectors: NDArray[np.float32], cosine: float, exact: int = EXACT) -> Pairs:
    """Pairs of unit vectors [photos, dimensions] whose cosine is at least `cosine`.

    Of more than `exact` photos only those are compared that lie in parts of the space near each other (FAISS's inverted
    lists): two so alike hardly ever do not.
    """
    if len(vectors) < 2:
        return NOTHING
    index = faiss.IndexFlatIP(vectors.shape[1]) if len(vectors) <= exact else _lists_of(vectors)
    index.add(vectors)
    found = _joined([_pairs_of(index, vectors, start, cosine) for start in range(0, len(vectors), BLOCK)])
    first = np.append(True, (np.diff(found.a) != 0) | (np.diff(found.b) != 0))[: len(found.a)]
    return found.where(first)


def _lists_of(vectors: NDArray[np.float32]) -> Any:
    lists = int(4 * len(vectors) ** 0.5)
    index: Any = faiss.index_factory(vectors.shape[1], f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT)
    index.nprobe = PROBED
    every = max(1, len(vectors) // (SEEN_A_LIST * lists))
    index.train(np.ascontiguousarray(vectors[::every]))
    return index


def _pairs_of(index: Any, items: NDArray[Any], start: int, radius: float) -> Pairs:
    """Each pair with one of a block, once or twice."""
    limits, measures, found = index.range_search(items[start : start + BLOCK], radius)
    a = start + np.repeat(np.arange(len(limits) - 1), np.diff(limits.astype(np.int64)))
    pairs = Pairs(np.minimum(a, found), np.maximum(a, found), measures.astype(np.float64))
    return pairs.where(pairs.a < pairs.b)


def _joined(parts: list[Pairs]) -> Pairs:
    a, b, measure = (np.concatenate([getattr(part, name) for part in parts]) for name in ("a", "b", "measure"))
    order = np.lexsort((b, a))
    return Pairs(a[order], b[order], measure[order])


def drop_near(
    looks: Looks,
    labels: NDArray[np.int64],
    image_ids: pa.Array,
    by_hash: Pairs,
    by_embedding: Pairs,
    params: NearDuplicateParams,
) -> Dropped:
    """Photos so close to a kept one of the same label that they add nothing.

    Larger photos are kept first, then those of smaller image ids; each dropped one names the kept one it is near.
    """
    hashed = by_hash.where(by_hash.measure <= params.drop_bits)
    embedded = by_embedding.where(by_embedding.measure >= params.drop_cosine)
    a, b, measure = (np.concatenate([getattr(p, name) for p in (hashed, embedded)]) for name in ("a", "b", "measure"))
    same = np.flatnonzero(labels[a] == labels[b])
    row, other, pair = np.append(a[same], b[same]), np.append(b[same], a[same]), np.append(same, same)
    order = np.lexsort((pair, other, row))  # what the hash says goes first
    row, other, pair = row[order], other[order].tolist(), pair[order].tolist()
    rows, starts = np.unique(row, return_index=True)
    ends = np.append(starts[1:], len(row))
    area = looks.widths[rows].astype(np.int64) * looks.heights[rows]
    kept: set[int] = set()
    found: list[tuple[int, int, int]] = []
    for at in np.lexsort((rows, -area)).tolist():
        near = next((place for place in range(starts[at], ends[at]) if other[place] in kept), None)
        if near is None:
            kept.add(int(rows[at]))
        else:
            found.append((int(rows[at]), other[near], pair[near]))
    names = image_ids.take(pa.array([keeps for _, keeps, _ in found], pa.int64())).to_pylist()
    words = [
        f"hash differs in {measure[at]:.0f} bits from {name}"
        if at < len(hashed.a)
        else f"cosine {measure[at]:.4f} to {name}"
        for (_, _, at), name in zip(found, names, strict=True)
    ]
    return dropped([set_aside for set_aside, _, _ in found], NEAR_DUPLICATE, words)
