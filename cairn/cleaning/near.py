"""Near duplicates: pairs of photos of one view, by perceptual hash and by embedding; which to drop, which to group."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from cairn.cleaning.inspection import Look, thumbnails
from cairn.cleaning.reasons import NEAR_DUPLICATE, Dropped
from cairn.params import NearDuplicateParams

BANDS, BAND_BITS = 4, 16
LEAST_CORRELATION = 0.8  # of two thumbnails whose hashes are close: hashes of unlike photos do collide
BLOCK = 4096


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows, a < b: int64 [pairs] each, with how far apart (bits) or how alike (cosine) they are."""

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    measure: NDArray[np.float64]

    def where(self, chosen: NDArray[np.bool_]) -> Pairs:
        """The chosen pairs."""
        return Pairs(self.a[chosen], self.b[chosen], self.measure[chosen])


def pairs_by_hash(looks: list[Look], bits: int) -> Pairs:
    """Pairs whose 64-bit perceptual hashes differ in at most `bits` bits and whose thumbnails correlate.

    Exact multi-index search (Norouzi et al. 2012, arXiv:1307.2982): of four bands of 16 bits, at least one differs in
    at most a quarter of the bits.
    """
    if bits < 0 or len(looks) < 2:
        return Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    codes = np.array([look.perceptual_hash for look in looks], dtype=">u8").view(np.uint8).reshape(-1, 8)
    index = faiss.IndexBinaryMultiHash(64, BANDS, BAND_BITS)
    index.nflip = bits // BANDS
    index.add(codes)
    found = [_pairs_of(index, codes, start, bits + 1) for start in range(0, len(codes), BLOCK)]
    pairs = _joined(found)
    small = thumbnails(looks)
    return pairs.where((small[pairs.a] * small[pairs.b]).sum(axis=1) >= LEAST_CORRELATION)


def pairs_by_embedding(vectors: NDArray[np.float32], cosine: float) -> Pairs:
    """Pairs of unit vectors [photos, dimensions] whose cosine is at least `cosine`."""
    if len(vectors) < 2:
        return Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return _joined([_pairs_of(index, vectors, start, cosine) for start in range(0, len(vectors), BLOCK)])


def _pairs_of(index: Any, items: NDArray[Any], start: int, radius: float) -> Pairs:
    limits, measures, found = index.range_search(items[start : start + BLOCK], radius)
    a = start + np.repeat(np.arange(len(limits) - 1), np.diff(limits.astype(np.int64)))
    pairs = Pairs(a.astype(np.int64), found.astype(np.int64), measures.astype(np.float64))
    return pairs.where(pairs.a < pairs.b)


def _joined(parts: list[Pairs]) -> Pairs:
    a, b, measure = (np.concatenate([getattr(part, name) for part in parts]) for name in ("a", "b", "measure"))
    order = np.lexsort((b, a))
    return Pairs(a[order], b[order], measure[order])


def drop_near(
    looks: list[Look],
    labels: Mapping[str, int | None],
    by_hash: Pairs,
    by_embedding: Pairs,
    params: NearDuplicateParams,
) -> Dropped:
    """Photos so close to a kept one of the same label that they add nothing.

    Larger photos are kept first, then those of smaller image ids; each dropped one names the kept one it is near.
    """
    close: dict[int, dict[int, str]] = defaultdict(dict)
    for pairs, said in (
        (by_hash.where(by_hash.measure <= params.drop_bits), "hash differs in {:.0f} bits from {}"),
        (by_embedding.where(by_embedding.measure >= params.drop_cosine), "cosine {:.4f} to {}"),
    ):
        for a, b, measure in zip(pairs.a.tolist(), pairs.b.tolist(), pairs.measure.tolist(), strict=True):
            if labels[looks[a].image_id] == labels[looks[b].image_id]:
                close[a].setdefault(b, said.format(measure, looks[b].image_id))
                close[b].setdefault(a, said.format(measure, looks[a].image_id))
    kept: set[int] = set()
    dropped: Dropped = {}
    for row in sorted(close, key=lambda r: (-looks[r].width * looks[r].height, looks[r].image_id)):
        near = sorted(kept.intersection(close[row]))
        if near:
            dropped[looks[row].image_id] = (NEAR_DUPLICATE, close[row][near[0]])
        else:
            kept.add(row)
    return dropped
