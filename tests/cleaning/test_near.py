"""Pairs by hash and by embedding against every pair looked at in turn."""

from __future__ import annotations

import numpy as np
import pytest

from cairn.cleaning import near
from cairn.cleaning.inspection import THUMBNAIL, Look


def looks(codes: list[int]) -> list[Look]:
    alike = np.arange(THUMBNAIL**2, dtype=np.uint8).tobytes()
    return [Look(f"{i:016x}", width=10, height=10, perceptual_hash=c, thumbnail=alike) for i, c in enumerate(codes)]


@pytest.mark.parametrize("bits", [0, 2, 5, 10])
def test_multi_index_search_finds_every_pair(bits: int) -> None:
    rng = np.random.default_rng(bits)
    codes = [int(c) for c in rng.integers(0, 2**63, 40)]
    for code in codes[:40]:
        flips = rng.choice(64, size=rng.integers(0, 14), replace=False)
        codes.append(code ^ sum(1 << int(f) for f in flips))
    pairs = near.pairs_by_hash(looks(codes), bits)
    found = {(a, b): m for a, b, m in zip(pairs.a.tolist(), pairs.b.tolist(), pairs.measure.tolist(), strict=True)}
    distance = {(a, b): (codes[a] ^ codes[b]).bit_count() for a in range(80) for b in range(a + 1, 80)}
    assert found == {pair: d for pair, d in distance.items() if d <= bits}


def test_pairs_by_embedding_are_those_of_the_full_matrix() -> None:
    vectors = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = near.pairs_by_embedding(vectors, 0.9)
    a, b = np.nonzero(np.triu(vectors @ vectors.T >= 0.9, 1))
    assert list(zip(pairs.a.tolist(), pairs.b.tolist(), strict=True)) == list(zip(a.tolist(), b.tolist(), strict=True))


def test_every_dropped_photo_is_near_a_kept_one() -> None:
    codes = [0b0, 0b11, 0b1111, 0b111111]  # a chain: each two bits from the next
    found = looks(codes)
    params = near.NearDuplicateParams(
        drop_bits=2, group_bits=2, drop_cosine=1.01, group_cosine=1.01, backbone=None, weights="none"
    )
    nothing = near.Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    dropped = near.drop_near(found, {x.image_id: 1 for x in found}, near.pairs_by_hash(found, 2), nothing, params)
    assert sorted(dropped) == [found[1].image_id, found[3].image_id]
    assert dropped[found[3].image_id] == ("near duplicate", f"hash differs in 2 bits from {found[2].image_id}")
