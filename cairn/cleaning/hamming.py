"""All pairs of 64-bit codes that differ in few bits: exact, and far from comparing each with each.

The 64 bits are dealt into two halves; of all the bits in which two codes differ, one half holds no more than half
(pigeonhole). Of a half's 32 bits, covering sets are looked at (Pagh 2016, CoveringLSH, arXiv:1507.03225): for r bits
that differ the 2^(r+1) - 1 sums of r + 1 rows of the Hadamard code, of 16 bits or of all 32. Whichever r bits those
are, at least one set holds none of them. So codes of every pair wanted agree wholly on one of these sets, and are
compared there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.pool import ThreadPool
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

HALF = 32
MOST_BITS = 11  # radii of five in both halves; for more there are no such sets, and each code is compared with each
FEW = 4096  # codes for which that is quicker anyway
STRETCH = 1 << 15  # codes compared at a time: what stays in a processor's cache
BLOCK = 1 << 16  # pairs handed on at a time

Codes = NDArray[np.uint64]
Rows = NDArray[np.int64]


class Close(NamedTuple):
    """Pairs of rows, a < b, int64 [pairs] each, in order, and in how many bits they differ, uint8 [pairs]."""

    a: Rows
    b: Rows
    bits: NDArray[np.uint8]


def close_pairs(codes: Codes, bits: int, wanted: Callable[[Rows, Rows], NDArray[np.bool_]]) -> Close:
    """Every pair of `codes` uint64 [photos] that differ in at most `bits` bits, as far as `wanted`.

    wanted: says of pairs of rows, int64 [some] each, which to keep; called by several threads

    Codes that come many times are compared once. Memory is some 30 bytes a code for each thread, and the wanted pairs.
    """
    order = np.argsort(codes, kind="stable")
    single, first, copies = np.unique(codes[order], return_index=True, return_counts=True)
    masks = covering_masks(single, bits)
    find = partial(_found, single, masks, bits)

    def pairs(table: int) -> list[tuple[Rows, Rows]]:
        return [kept(*some) for found in find(table) for some in _expanded(order, first, copies, *found)]

    def kept(a: Rows, b: Rows) -> tuple[Rows, Rows]:
        a, b = np.minimum(a, b), np.maximum(a, b)
        chosen = wanted(a, b)
        return a[chosen], b[chosen]

    repeated = np.flatnonzero(copies > 1)
    close = [kept(*some) for some in _expanded(order, first, copies, repeated, repeated)]
    with ThreadPool(os.cpu_count()) as pool:
        for some in pool.imap_unordered(pairs, range(len(masks))):
            close += some
    a, b = (np.concatenate([np.empty(0, np.int64), *(each[at] for each in close)]) for at in (0, 1))
    inorder = np.lexsort((b, a))
    a, b = a[inorder], b[inorder]
    return Close(a, b, np.bitwise_count(codes[a] ^ codes[b]))


def covering_masks(codes: Codes, bits: int) -> Codes:
    """Sets of bits, uint64 [tables]: two codes that differ in at most `bits` agree on all bits of at least one.

    A single empty set where there are too few codes, or too many bits, for anything else to pay.
    """
    if bits > MOST_BITS or len(codes) < FEW:
        return np.zeros(1, np.uint64)
    at = np.arange(HALF)
    rows = np.stack([*((at >> row) & 1 for row in range(5)), np.ones(HALF, np.int64)])
    radii = bits // 2, (bits - 1) // 2
    masks = []
    for half, radius in zip(_halves(codes), radii, strict=True):
        for chosen in range(1, 2 ** (radius + 1)):
            members = rows[: radius + 1][[bool(chosen >> row & 1) for row in range(radius + 1)]].sum(axis=0) % 2
            masks.append(int(sum(1 << int(bit) for bit in half[members == 1])))
    return np.array(masks, np.uint64)


def _halves(codes: Codes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The 64 bits dealt into two halves. Those that say least (a perceptual hash's first is always set) come first in
    their half, where fewest sets hold them.
    """
    some = codes[:: max(1, len(codes) // 10_000)]
    share = ((some[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)).mean(axis=0)
    telling = np.argsort(-np.abs(share - 0.5), kind="stable")
    return telling[1::2], telling[::2]


def _found(codes: Codes, masks: Codes, bits: int, table: int) -> Iterator[tuple[Rows, Rows]]:
    """Pairs of rows within `bits` bits of which `table` is the first set of bits that they agree on."""
    order, ends = _buckets(codes, masks[table])
    near = codes[order]
    for a, b in _compared(near, ends, bits):
        differ = near[a] ^ near[b]
        first = (differ & masks[table]) == 0
        for mask in masks[:table]:
            first &= (differ & mask) != 0
        yield order[a[first]], order[b[first]]


def _buckets(codes: Codes, mask: np.uint64) -> tuple[Rows, Rows]:
    """Rows by the bits of `mask`, in buckets, the largest first; and where those of more than 1, 2, ... rows end."""
    if mask == 0:
        return np.arange(len(codes)), np.full(max(0, len(codes) - 1), len(codes))
    keys = _gathered(codes, mask)
    sizes = np.bincount(keys)
    largest = np.argsort(-sizes, kind="stable")
    place = np.empty(len(sizes), np.uint16)
    place[largest] = np.arange(len(sizes))
    falling = sizes[largest]
    more = np.searchsorted(-falling, -np.arange(1, falling[0]), side="left")  # how many buckets hold more
    return np.argsort(place[keys], kind="stable"), np.append(0, np.cumsum(falling))[more]


def _gathered(codes: Codes, mask: np.uint64) -> NDArray[np.uint16]:
    """The bits of `mask`, the first 16 of them, side by side, uint16 [codes]."""
    key = np.zeros(len(codes), np.uint16)
    taken = 0
    for byte in range(8):
        places = [bit for bit in range(8) if int(mask) >> (8 * byte + bit) & 1]
        values = np.arange(256)
        table = sum((((values >> bit) & 1) << (taken + at) for at, bit in enumerate(places)), np.zeros(256, np.int64))
        if places:
            key |= table.astype(np.uint16)[(codes >> np.uint64(8 * byte)).astype(np.uint8)]
        taken += len(places)
    return key


def _compared(near: Codes, ends: Rows, bits: int) -> Iterator[tuple[Rows, Rows]]:
    """Places of codes within `bits` bits; among them all that are in one bucket.

    Each code is compared with the next one, then with the one after that, ..., as far as its bucket can reach.
    """
    room, count = np.empty(STRETCH, np.uint64), np.empty(STRETCH, np.uint8)
    found: list[tuple[Rows, int]] = []
    pending = 0
    for start in range(0, int(ends[0]) if len(ends) else 0, STRETCH):
        for step, end in enumerate(ends.tolist(), start=1):
            size = min(start + STRETCH, end - step) - start
            if size <= 0:
                break
            np.bitwise_xor(near[start : start + size], near[start + step : start + step + size], out=room[:size])
            np.bitwise_count(room[:size], out=count[:size])
            hits = np.flatnonzero(count[:size] <= bits)
            if len(hits):
                found.append((start + hits, step))
                pending += len(hits)
            if pending >= BLOCK:
                yield _ends(found)
                found, pending = [], 0
    if found:
        yield _ends(found)


def _ends(found: list[tuple[Rows, int]]) -> tuple[Rows, Rows]:
    return np.concatenate([a for a, _ in found]), np.concatenate([a + step for a, step in found])


def _expanded(order: Rows, first: Rows, copies: Rows, a: Rows, b: Rows) -> Iterator[tuple[Rows, Rows]]:
    """For pairs of distinct codes all pairs of rows that have them; for a code and itself, those of its copies."""
    times = copies[a] * copies[b]
    ends = np.cumsum(times)
    total = int(ends[-1]) if len(ends) else 0
    for start in range(0, total, BLOCK):
        number = np.arange(start, min(start + BLOCK, total))
        pair = np.searchsorted(ends, number, side="right")
        of_a, of_b = np.divmod(number - (ends - times)[pair], copies[b][pair])
        fresh = (a[pair] != b[pair]) | (of_a < of_b)
        yield order[first[a[pair]] + of_a][fresh], order[first[b[pair]] + of_b][fresh]
