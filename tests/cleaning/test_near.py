"""Near duplicates and all that is judged without a photo, against each pair looked at in turn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cleaning import plain_way
from cleaning.test_clean import settings
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from numpy.typing import NDArray

from cairn.cleaning import hamming, near
from cairn.cleaning.clean import PAIRS, judge, write_pairs
from cairn.cleaning.inspection import THUMBNAIL, Look
from cairn.cleaning.looks import DIGEST, Looks

ALIKE = np.arange(THUMBNAIL**2, dtype=np.uint8).tobytes()


def columns(looks: Sequence[Look]) -> Looks:
    """Looks as cleaning holds them."""
    nothing = np.zeros(len(looks), np.int64)
    squares = [np.frombuffer(look.thumbnail or bytes(THUMBNAIL**2), np.uint8) for look in looks]
    return Looks(
        errors={row: look.error for row, look in enumerate(looks) if look.error},
        widths=np.array([look.width for look in looks], np.int32),
        heights=np.array([look.height for look in looks], np.int32),
        pixels=np.array([list(bytes.fromhex(look.pixels) or bytes(DIGEST)) for look in looks], np.uint8).reshape(
            -1, DIGEST
        ),
        hashes=np.array([look.perceptual_hash for look in looks], np.uint64),
        thumbnails=np.array(squares, np.uint8).reshape(-1, THUMBNAIL**2),
        offsets=nothing,
        sizes=nothing,
        resized=Path("resized"),
    )


def looks_of(codes: Sequence[int]) -> list[Look]:
    return [Look(f"{i:016x}", width=10, height=10, perceptual_hash=c, thumbnail=ALIKE) for i, c in enumerate(codes)]


def every_pair(codes: NDArray[np.uint64], bits: int) -> list[tuple[int, int, int]]:
    differ = np.bitwise_count(codes[:, None] ^ codes[None])
    a, b = np.nonzero(np.triu(differ <= bits, 1))
    return list(zip(a.tolist(), b.tolist(), differ[a, b].tolist(), strict=True))


def clustered(rng: np.random.Generator, seeds: int, copies: int, most: int) -> NDArray[np.uint64]:
    """Codes, and copies of each with up to `most` bits flipped; the first bit is always set, as that of a phash is."""
    codes = np.repeat(rng.integers(2**63, 2**64, seeds, dtype=np.uint64), copies)
    for row in range(len(codes)):
        for bit in rng.choice(63, size=int(rng.integers(0, most + 1)), replace=False):
            codes[row] ^= np.uint64(1 << int(bit))
    return codes


@pytest.mark.parametrize("bits", [0, 1, 2, 5, 10, 11, 12, 64])
def test_every_pair_within_the_radius_is_found(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hamming, "FEW", 0)
    monkeypatch.setattr(hamming, "BLOCK", 100)
    monkeypatch.setattr(hamming, "STRETCH", 64)
    codes = clustered(np.random.default_rng(bits), 60, 6, bits // 2 + 2)
    found = hamming.close_pairs(codes, bits, lambda a, b: np.ones(len(a), bool))
    assert list(zip(*(column.tolist() for column in found), strict=True)) == every_pair(codes, bits)


@pytest.mark.parametrize("bits", range(12))
def test_whichever_bits_differ_one_set_holds_none_of_them(bits: int) -> None:
    rng = np.random.default_rng(bits)
    masks = hamming.covering_masks(rng.integers(0, 2**64, hamming.FEW, dtype=np.uint64), bits)
    assert (np.bitwise_count(masks) >= 16).all()
    for _ in range(2000):
        differ = sum(1 << int(bit) for bit in rng.choice(64, size=bits, replace=False))
        assert ((masks & np.uint64(differ)) == 0).any()


def test_only_wanted_pairs_are_given() -> None:
    codes = np.array([0, 1, 3, 0, 7], np.uint64)
    found = hamming.close_pairs(codes, 1, lambda a, b: (a + b) % 2 == 1)
    assert list(zip(*(column.tolist() for column in found), strict=True)) == [(0, 1, 1), (0, 3, 0), (1, 2, 1)]


def test_no_codes_and_a_single_one_have_no_pairs() -> None:
    for codes in (np.empty(0, np.uint64), np.ones(1, np.uint64)):
        assert len(hamming.close_pairs(codes, 10, lambda a, b: np.ones(len(a), bool)).a) == 0


@given(st.integers(0, 2**32))
@effort(max_examples=20)
def test_thumbnails_correlate_as_in_the_full_matrix(seed: int) -> None:
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 256, (4, THUMBNAIL**2))
    mixed = rng.uniform(0.3, 1, (30, 1)) * base[rng.integers(0, 4, 30)] + rng.uniform(0, 90, (30, THUMBNAIL**2))
    small = np.clip(mixed, 0, 255).astype(np.uint8)
    small[0] = 7  # one grey: alike to nothing
    a, b = (rows.ravel() for rows in np.indices((30, 30)))
    correlation = np.nan_to_num(np.corrcoef(np.where(small.std(axis=1, keepdims=True) > 0, small, np.nan)))
    assert (near.alike(small, a, b) == (correlation[a, b] >= 0.8)).all()


def test_pairs_by_embedding_are_those_of_the_full_matrix() -> None:
    vectors = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = near.pairs_by_embedding(vectors, 0.9)
    a, b = np.nonzero(np.triu(vectors @ vectors.T >= 0.9, 1))
    assert list(zip(pairs.a.tolist(), pairs.b.tolist(), strict=True)) == list(zip(a.tolist(), b.tolist(), strict=True))


def test_in_parts_of_the_space_hardly_a_pair_is_missed() -> None:
    """3,000 photos, each with one like it, cosines of .9 to 1; none is made up, and the second time it is the same."""
    rng = np.random.default_rng(0)
    single = rng.normal(size=(3000, 32))
    vectors = np.concatenate([single, single + rng.uniform(0, 0.4, (3000, 1)) * rng.normal(size=(3000, 32))])
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    pairs, wanted = near.pairs_by_embedding(vectors, 0.93, exact=0), near.pairs_by_embedding(vectors, 0.93)
    every = set(zip(wanted.a.tolist(), wanted.b.tolist(), strict=True))
    found = list(zip(pairs.a.tolist(), pairs.b.tolist(), strict=True))
    assert len(every) > 2000
    assert sorted(set(found)) == found
    assert set(found) <= every
    assert len(found) >= 0.99 * len(every)
    again = near.pairs_by_embedding(vectors, 0.93, exact=0)
    assert np.array_equal(pairs.measure, again.measure)
    assert np.array_equal(pairs.b, again.b)


def test_every_dropped_photo_is_near_a_kept_one() -> None:
    found = columns(looks_of([0b0, 0b11, 0b1111, 0b111111]))  # a chain: each two bits from the next
    ids = pa.array([f"{i:016x}" for i in range(4)])
    params = settings().near_duplicates.model_copy(update={"drop_bits": 2, "drop_cosine": 1.01})
    pairs = near.pairs_by_hash(found, np.arange(4), 2)
    dropped = near.drop_near(found, np.ones(4, np.int64), ids, pairs, near.NOTHING, params).to_pylist()
    assert [row["row"] for row in dropped] == [1, 3]
    assert dropped[1]["reason"] == "near duplicate"
    assert dropped[1]["evidence"] == f"hash differs in 2 bits from {ids[2]}"


@given(st.integers(0, 2**32))
@effort(max_examples=25)
def test_what_is_judged_is_what_the_slow_plain_way_judges(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(0, 60))
    shades = rng.integers(0, 256, (3, THUMBNAIL**2), dtype=np.uint8)
    shades[2] = 9
    codes = clustered(rng, 6, 10, 6)[rng.permutation(60)[:count]]
    looks = [
        Look(f"{row:016x}", error="cut off")
        if rng.random() < 0.1
        else Look(
            f"{row:016x}",
            width=int(rng.choice([20, 60, 64, 300])),
            height=int(rng.choice([60, 64])),
            pixels=f"{int(rng.integers(0, 40)):064x}",
            perceptual_hash=int(code),
            thumbnail=shades[rng.integers(0, 3)].tobytes(),
        )
        for row, code in enumerate(codes)
    ]
    shown = [None if label == 0 else int(label) for label in rng.integers(0, 5, count)]
    labels = {look.image_id: label for look, label in zip(looks, shown, strict=True)}
    images = pa.table({"image_id": pa.array(list(labels), pa.string()), "landmark_id": pa.array(shown, pa.int64())})
    params = settings(min_class_size=3)
    vectors: list[NDArray[np.float32]] = []

    def embed(left: pa.Table) -> NDArray[np.float32]:
        made = rng.normal(size=(5, 3))[rng.integers(0, 5, left.num_rows)] + rng.normal(0, 0.1, (left.num_rows, 3))
        vectors.append((made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32))
        return vectors[0]

    found = judge(images, columns(looks), params, embed, None)
    dropped, pairs = plain_way.judged(looks, labels, params, vectors[0])
    rows = found.dropped.to_pylist()
    assert {looks[row["row"]].image_id: (row["reason"], row["evidence"]) for row in rows} == dropped
    assert [looks[row].image_id for row in found.kept] == sorted(set(labels) - set(dropped))
    stays = np.isin(np.arange(count), found.kept)
    named = [
        (looks[a].image_id, looks[b].image_id, kind, pytest.approx(measure, abs=1e-5))
        for kind, some in found.grouped.items()
        for a, b, measure in zip(some.a.tolist(), some.b.tolist(), some.measure.tolist(), strict=True)
        if stays[a] and stays[b]
    ]
    assert named == pairs


def test_no_pairs_are_a_table_of_no_rows(tmp_path: Path) -> None:
    write_pairs(tmp_path, pa.chunked_array([pa.array(["a"])]), {"hash": near.NOTHING, "embedding": near.NOTHING})
    assert pq.read_schema(tmp_path / "pairs.parquet").equals(PAIRS)
