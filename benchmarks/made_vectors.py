"""Made embeddings for sizes that no real photos are at hand for, as hard to search as real ones.

A landmark has a long tail of photos. A photo is the sum of Gaussian parts: its landmark's, that of the kind of scene it
shows, which landmarks share, its view's, its closer view's, and its own, of various size. Their covariances follow a
real network's spectrum. The parts' shares were fitted until neighbours lay as near, as many and in as many dimensions
as those of real photos (`vector_shape.py`); a distractor has no landmark, and parts of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

DIMENSIONS = 512
SEED = 0
SHARD = 20_000  # photos of an embedding file
BLOCK = 50_000  # photos made at a time
# Eigenvalues at some places, by rank, of the real vectors' covariance.
RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 400, 512)
EIGENVALUES = (0.066281, 0.058494, 0.041563, 0.022446, 0.010637, 0.005195, 0.002696, 0.001374, 618e-6, 298e-6, 170e-6)
KINDS, FINE_KINDS = 64, 4096  # of scenes
# GLDv2: 57 % of the landmarks have ten photos at most, 38 % five; a log-normal with these has 22 in the mean.
SIZES_MEAN, SIZES_DEVIATION = 2.05, 1.44


class Made(NamedTuple):
    """Unit vectors float32 [n, dimensions], and what they show, int64 [n]; -1 for a distractor."""

    vectors: NDArray[np.float32]
    landmark_ids: NDArray[np.int64]


class Fit(NamedTuple):
    """What the parts are like: found by random search for the figures of real photos."""

    shares: tuple[float, ...]  # of the variance: landmark, kind, fine kind, view, closer view, photo
    views: float  # a landmark of n photos has n to the power of this
    closer: float  # and a view of n photos so many closer ones
    skew: float  # how unequal views are
    kind_skew: float
    shared: float  # powers of the spectrum: of landmarks and kinds,
    own: float  # of views and photos,
    distracting: float  # and of distractors
    distractor_kind: float  # share of a distractor's variance that a kind of scene has
    deviation: float  # of the logarithm of a photo's own size


FITTED = Fit(
    shares=(0.177, 0.203, 0.044, 0.068, 0.142, 0.264),
    views=0.65,
    closer=0.78,
    skew=1.76,
    kind_skew=2.6,
    shared=1.1,
    own=0.95,
    distracting=0.6,
    distractor_kind=0.1,
    deviation=0.19,
)


def landmark_sizes(photos: int, seed: int) -> NDArray[np.int64]:
    """Photos of each landmark, int64 [landmarks], `photos` in all: GLDv2's long tail."""
    rng = np.random.default_rng((seed, 0))
    sizes = np.ceil(rng.lognormal(SIZES_MEAN, SIZES_DEVIATION, photos)).astype(np.int64)
    ends = np.cumsum(sizes)
    last = int(np.searchsorted(ends, photos))
    sizes[last] -= ends[last] - photos
    return sizes[: last + 1]


class World:
    """What all made photos of a seed have in common."""

    def __init__(self, dimensions: int, seed: int, fit: Fit = FITTED) -> None:
        self.dimensions, self.seed, self.fit = dimensions, seed, fit
        rng = np.random.default_rng((seed, 1))
        ranks = np.arange(1, dimensions + 1)
        self.spectrum = np.exp(np.interp(np.log(ranks), np.log(RANKS), np.log(EIGENVALUES)))
        self.kinds = self._gaussian(rng, KINDS, fit.shared)
        self.fine = self._gaussian(rng, FINE_KINDS, fit.own)
        # No network's dimensions are in order of their variance.
        self.turn = np.linalg.qr(rng.standard_normal((dimensions, dimensions)))[0].astype(np.float32)

    def _gaussian(self, rng: np.random.Generator, rows: int, power: float) -> NDArray[np.float32]:
        scales = self.spectrum**power
        deviations = np.sqrt(scales / scales.sum()).astype(np.float32)
        return rng.standard_normal((rows, self.dimensions), dtype=np.float32) * deviations

    def photos(self, sizes: NDArray[np.int64], first: int) -> Made:
        """All photos of landmarks, of so many each, int64 [landmarks]; their ids are `first` and those after it."""
        fit = self.fit
        rng = np.random.default_rng((self.seed, 2, first))
        landmarks = np.repeat(np.arange(len(sizes)), sizes)
        views = _parted(rng, landmarks, fit.views, fit.skew)
        closer = _parted(rng, views, fit.closer, fit.skew)
        count = int(views.max()) + 1
        fine = np.floor(FINE_KINDS * rng.random(count) ** fit.kind_skew).astype(np.int64)[views]
        weights = np.sqrt(np.array(fit.shares) / sum(fit.shares)).astype(np.float32)
        sizes_own = np.exp(fit.deviation * rng.standard_normal(len(landmarks))).astype(np.float32)
        vectors = weights[5] * sizes_own[:, None] * self._gaussian(rng, len(landmarks), fit.own)
        vectors += weights[0] * self._gaussian(rng, len(sizes), fit.shared)[landmarks]
        vectors += weights[1] * self.kinds[fine % KINDS]
        vectors += weights[2] * self.fine[fine]
        vectors += weights[3] * self._gaussian(rng, count, fit.own)[views]
        vectors += weights[4] * self._gaussian(rng, int(closer.max()) + 1, fit.own)[closer]
        return Made(self._unit(vectors), landmarks + first)

    def distractors(self, count: int, draw: int) -> Made:
        """Photos of no landmark; another draw gives others."""
        rng = np.random.default_rng((self.seed, 3, draw))
        kind = np.float32(self.fit.distractor_kind)
        vectors = np.sqrt(1 - kind) * self._gaussian(rng, count, self.fit.distracting)
        vectors += np.sqrt(kind) * self.kinds[rng.integers(KINDS, size=count)]
        return Made(self._unit(vectors), np.full(count, -1))

    def _unit(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        turned = vectors @ self.turn
        turned /= np.linalg.norm(turned, axis=1, keepdims=True)
        return turned

    def blocks(self, sizes: NDArray[np.int64]) -> Iterator[Made]:
        """The photos of all landmarks, some whole landmarks at a time."""
        ends = np.cumsum(sizes)
        first = 0
        while first < len(sizes):
            done = ends[first - 1] if first else 0
            last = max(first + 1, int(np.searchsorted(ends, done + BLOCK)))
            yield self.photos(sizes[first:last], first)
            first = last


def _parted(rng: np.random.Generator, groups: NDArray[np.int64], power: float, skew: float) -> NDArray[np.int64]:
    """Each group of n, int64 [photos], parted into n to the power of `power`; the parts are numbered from 0."""
    _, group, counts = np.unique(groups, return_inverse=True, return_counts=True)
    parts = np.ceil(counts**power)[group]
    place = np.floor(parts * rng.random(len(groups)) ** skew).astype(np.int64)
    return np.unique(group * len(groups) + place, return_inverse=True)[1]


class Written(NamedTuple):
    """What `write` made: the folder's files, image ids and landmarks int64 [photos], and queries of other photos."""

    paths: list[Path]
    image_ids: NDArray[np.int64]
    landmark_ids: NDArray[np.int64]
    queries: Made


def write(folder: Path, photos: int, queries: int, distractors: int, dimensions: int) -> Written:
    """Write so many photos as the embed stage does, float16, a file a shard; queries are other photos of the same
    landmarks, and distractors.
    """
    folder.mkdir(parents=True)
    world = World(dimensions, SEED)
    rng = np.random.default_rng((SEED, 4))
    sizes = landmark_sizes(photos + queries, SEED)
    chosen = np.zeros(photos + queries, dtype=bool)
    chosen[rng.permutation(photos + queries)[:queries]] = True
    paths: list[Path] = []
    shown, asked, kept, at = [], [], np.empty((0, dimensions), dtype=np.float16), 0
    for block in world.blocks(sizes):
        query = chosen[at : at + len(block.vectors)]
        at += len(block.vectors)
        asked.append(Made(block.vectors[query], block.landmark_ids[query]))
        shown.append(block.landmark_ids[~query])
        kept = np.concatenate([kept, block.vectors[~query].astype(np.float16)])
        while len(kept) >= SHARD or (at == len(chosen) and len(kept)):
            paths.append(folder / f"shard_{len(paths):05}.npy")
            np.save(paths[-1], kept[:SHARD])
            kept = kept[SHARD:]
    asked.append(world.distractors(distractors, 0))
    ids = np.unique(rng.integers(2**64, size=photos + 10, dtype=np.uint64))  # in the order of a manifest
    return Written(
        paths,
        ids[:photos].view(np.int64),
        np.concatenate(shown),
        Made(np.concatenate([made.vectors for made in asked]), np.concatenate([made.landmark_ids for made in asked])),
    )
