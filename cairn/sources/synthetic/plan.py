"""Which photos there are: how many of each landmark, and which are duplicates, wrongly labelled or broken."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from cairn.params import SyntheticParams
from cairn.sources.base import SourceError

Kind = Literal["landmark", "distractor", "exact_duplicate", "near_duplicate", "broken"]

LEAST = 4  # photos of the rarest landmark, where there are enough
TAIL = 1.0  # Zipf's exponent: the photos of the landmark of rank r are as many as 1 / (r + SHIFT) ** TAIL
SHIFT = 2.0


class Shot(NamedTuple):
    """One photo to be made. `shows` is what is in the picture, `label` what the data says; none: no landmark."""

    number: int
    kind: Kind
    shows: int | None
    label: int | None
    original: int | None = None  # the number of the photo that a duplicate repeats


def plan(params: SyntheticParams, seed: int) -> list[Shot]:
    """All photos, in the order of their numbers, 0 upwards.

    Raises SourceError if the counts cannot be met.
    """
    _check(params)
    rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))
    shown = np.repeat(np.arange(params.landmarks), class_sizes(params.landmarks, params.images, rng))
    labels = shown.copy()
    wrong = rng.choice(params.images, params.mislabelled, replace=False)
    labels[wrong] = (shown[wrong] + rng.integers(1, params.landmarks, len(wrong))) % params.landmarks
    shots = [Shot(number, "landmark", int(a), int(b)) for number, (a, b) in enumerate(zip(shown, labels, strict=True))]
    shots += [Shot(params.images + k, "distractor", None, None) for k in range(params.distractors)]
    copies: list[tuple[Kind, int]] = [
        ("exact_duplicate", params.exact_duplicates),
        ("near_duplicate", params.near_duplicates),
    ]
    for kind, count in copies:
        right = np.flatnonzero(shown == labels)
        for original in _sample(right, count, rng):
            landmark = int(shown[original])
            shots.append(Shot(len(shots), kind, landmark, landmark, original))
    for _ in range(params.broken):
        claimed = int(rng.integers(params.landmarks)) if rng.random() < 0.8 else None
        shots.append(Shot(len(shots), "broken", claimed, claimed))
    return shots


def class_sizes(landmarks: int, images: int, rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Photos of each landmark, int64 [landmarks]: a long tail in a random order that sums to `images`."""
    least = min(LEAST, images // landmarks)
    weights = 1 / (np.arange(landmarks) + SHIFT) ** TAIL
    shares = (images - least * landmarks) * weights / weights.sum()
    sizes = np.floor(shares).astype(np.int64)
    rest = images - least * landmarks - int(sizes.sum())
    sizes[np.argsort(sizes - shares, kind="stable")[:rest]] += 1
    return rng.permutation(sizes + least)


def _sample(options: np.ndarray[tuple[int], np.dtype[np.int64]], count: int, rng: np.random.Generator) -> list[int]:
    """`count` of the options, none twice while there are others left."""
    rounds = [rng.permutation(options) for _ in range(-(-count // max(len(options), 1)))]
    return [int(value) for value in np.concatenate([*rounds, options[:0]])[:count]]


def _check(params: SyntheticParams) -> None:
    where = "fetch.synthetic"
    if params.images < params.landmarks:
        raise SourceError(
            f"{where}.images = {params.images} is less than {where}.landmarks = {params.landmarks}; "
            f"every landmark needs a photo (better {LEAST}): raise images or lower landmarks"
        )
    if params.mislabelled >= params.images:
        raise SourceError(
            f"{where}.mislabelled = {params.mislabelled} leaves none of {where}.images = {params.images} right"
        )
