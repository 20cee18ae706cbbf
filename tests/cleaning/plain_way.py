"""Cleaning's decisions the slow plain way: a loop over photos, dicts, and each pair looked at in turn."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
from numpy.typing import NDArray

from cairn.cleaning.inspection import Look
from cairn.params import CleanParams

Labels = dict[str, int | None]
Dropped = dict[str, tuple[str, str]]  # image id -> reason, evidence
Pairs = list[tuple[int, int, float]]


def judged(
    looks: list[Look], labels: Labels, params: CleanParams, vectors: NDArray[np.float32] | None
) -> tuple[Dropped, list[tuple[str, str, str, float]]]:
    """What is dropped, and the pairs of kept photos (image a, image b, kind, measure).

    vectors: of the photos that are left when near duplicates are looked for
    """
    near = params.near_duplicates
    dropped = by_shape(looks, params)
    left = [look for look in looks if look.image_id not in dropped]
    dropped |= identical(left, labels)
    left = [look for look in left if look.image_id not in dropped]
    hashed = by_hash(left, max(near.group_bits, near.drop_bits))
    embedded = [] if vectors is None else by_embedding(vectors, min(near.group_cosine, near.drop_cosine))
    dropped |= too_near(
        left,
        labels,
        [(a, b, f"hash differs in {m:.0f} bits from {{}}") for a, b, m in hashed if m <= near.drop_bits]
        + [(a, b, f"cosine {m:.4f} to {{}}") for a, b, m in embedded if m >= near.drop_cosine],
    )
    kept = [look.image_id for look in left if look.image_id not in dropped]
    sizes = Counter(labels[image_id] for image_id in kept)
    for image_id in kept:
        label = labels[image_id]
        if label is not None and sizes[label] < params.min_class_size:
            dropped[image_id] = ("class below the minimum", f"landmark {label} has {sizes[label]} photos left")
    grouped = [(a, b, "hash", m) for a, b, m in hashed if m <= near.group_bits]
    grouped += [(a, b, "embedding", m) for a, b, m in embedded if m >= near.group_cosine]
    named = [(left[a].image_id, left[b].image_id, kind, m) for a, b, kind, m in grouped]
    return dropped, [pair for pair in named if pair[0] not in dropped and pair[1] not in dropped]


def by_shape(looks: list[Look], params: CleanParams) -> Dropped:
    dropped: Dropped = {}
    for look in looks:
        if look.error:
            dropped[look.image_id] = ("undecodable", look.error)
        elif min(look.width, look.height) < params.min_side:
            dropped[look.image_id] = ("too small", f"{look.width} x {look.height} pixels")
        elif max(look.width, look.height) > params.max_aspect * min(look.width, look.height):
            dropped[look.image_id] = ("too extreme a shape", f"{look.width} x {look.height} pixels")
    return dropped


def identical(looks: list[Look], labels: Labels) -> Dropped:
    alike: dict[str, list[str]] = defaultdict(list)
    for look in looks:
        alike[look.pixels].append(look.image_id)
    dropped: Dropped = {}
    for ids in alike.values():
        said = {labels[image_id] for image_id in ids}
        if len(said) > 1:
            names = (["none"] if None in said else []) + [str(label) for label in sorted(said - {None})]
            dropped |= dict.fromkeys(
                ids, ("label conflict of identical photos", f"landmarks {', '.join(names)} for one photo")
            )
        else:
            dropped |= dict.fromkeys(ids[1:], ("exact duplicate", f"twin of {ids[0]}"))
    return dropped


def by_hash(looks: list[Look], bits: int) -> Pairs:
    small = [unit(look.thumbnail) for look in looks]
    return [
        (a, b, float(differ))
        for a in range(len(looks))
        for b in range(a + 1, len(looks))
        if (differ := (looks[a].perceptual_hash ^ looks[b].perceptual_hash).bit_count()) <= bits
        and (small[a] * small[b]).sum() >= 0.8
    ]


def unit(thumbnail: bytes) -> NDArray[np.float64]:
    pixels = np.frombuffer(thumbnail, np.uint8) - np.mean(list(thumbnail))
    length = float(np.linalg.norm(pixels))
    return pixels / length if length else pixels


def by_embedding(vectors: NDArray[np.float32], cosine: float) -> Pairs:
    found = []
    for a in range(len(vectors)):
        for b in range(a + 1, len(vectors)):
            alike = float(vectors[a] @ vectors[b])
            if alike >= cosine:
                found.append((a, b, alike))
    return found


def too_near(looks: list[Look], labels: Labels, close: list[tuple[int, int, str]]) -> Dropped:
    said: dict[int, dict[int, str]] = defaultdict(dict)
    for a, b, words in close:
        if labels[looks[a].image_id] == labels[looks[b].image_id]:
            said[a].setdefault(b, words)
            said[b].setdefault(a, words)
    kept: set[int] = set()
    dropped: Dropped = {}
    for row in sorted(said, key=lambda r: (-looks[r].width * looks[r].height, looks[r].image_id)):
        near = sorted(kept & set(said[row]))
        if near:
            dropped[looks[row].image_id] = ("near duplicate", said[row][near[0]].format(looks[near[0]].image_id))
        else:
            kept.add(row)
    return dropped
