"""Which photos make up each batch. Every sampler's batches depend on its data, its seed and its epoch alone."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from cairn.params import Schedule

KMEANS_STARTS = 5


class EpochBatches(ABC):
    """Batches of positions of photos. Set `epoch` before each epoch."""

    def __init__(self, seed: int) -> None:
        self.seed, self.epoch = seed, 0

    def batches(self) -> list[NDArray[np.int64]]:
        """All batches of the epoch, as many in each, parts of one array: 8 bytes a photo."""
        return self._batches(np.random.default_rng((self.seed, self.epoch)))

    @abstractmethod
    def _batches(self, rng: np.random.Generator) -> list[NDArray[np.int64]]:
        """All batches of the epoch that `rng` stands for."""


class Shuffled(EpochBatches):
    """Every photo once, in a new order each epoch. A last batch that is not full is left out, unless it is the only
    one.
    """

    def __init__(self, photos: int, batch_size: int, seed: int) -> None:
        """`photos`: how many there are."""
        super().__init__(seed)
        self.photos, self.batch_size = photos, batch_size
        self._used = photos - photos % batch_size if photos > batch_size else photos

    def _batches(self, rng: np.random.Generator) -> list[NDArray[np.int64]]:
        order = rng.permutation(self.photos)[: self._used]
        return [order[at : at + self.batch_size] for at in range(0, len(order), self.batch_size)]


class ClassesByImages(EpochBatches):
    """`per_batch` different classes a batch, `images` photos of each (Hermans et al. 2017, arXiv:1703.07737).

    An epoch has about as many photos as there are and shows every class. A class whose photos do not fill its last
    turn repeats some; no class has two turns in a batch, so one that is too large for that has photos left over for
    other epochs.
    """

    def __init__(self, classes: NDArray[np.int64], per_batch: int, images: int, seed: int) -> None:
        """`classes`: the class number of each photo, int64 [photos].

        Raises ValueError if a number is negative or there are fewer than `per_batch` classes.
        """
        super().__init__(seed)
        self.per_batch, self.images = per_batch, images
        self._members = members_of(classes, per_batch)

    def _batches(self, rng: np.random.Generator) -> list[NDArray[np.int64]]:
        return list(_grouped(self._members, self.per_batch, self.images, rng))


class Subspaces(EpochBatches):
    """Batches as in ClassesByImages, each with classes of one cluster only, so that its negatives are hard (Wang et al.
    2017, arXiv:1709.02940).
    """

    def __init__(
        self,
        classes: NDArray[np.int64],
        class_means: NDArray[np.float32],
        clusters: int,
        per_batch: int,
        images: int,
        seed: int,
        rounds: int,
    ) -> None:
        """`classes` as in ClassesByImages; `class_means` float32 [classes, dimensions], row c being class c's;
        `rounds` of k-means.

        Raises ValueError as ClassesByImages does, and where a class has no row.
        """
        super().__init__(seed)
        self.per_batch, self.images = per_batch, images
        members = members_of(classes, per_batch)
        present = np.unique(classes)
        if present[-1] >= len(class_means):
            raise ValueError(f"class {present[-1]} has no row among {len(class_means)} class means")
        numbers = cluster(class_means[present], clusters, per_batch, seed, rounds)
        self._clusters = [members.of(numbers == n) for n in range(int(numbers.max()) + 1)]

    def _batches(self, rng: np.random.Generator) -> list[NDArray[np.int64]]:
        batches = np.concatenate([_grouped(m, self.per_batch, self.images, rng) for m in self._clusters])
        return list(batches[rng.permutation(len(batches))])


@dataclass(frozen=True)
class Members:
    """The photos of each class, class after class.

    positions: int64 [photos]
    counts: photos of each class, int64 [classes], none 0
    """

    positions: NDArray[np.int64]
    counts: NDArray[np.int64]

    def of(self, chosen: NDArray[np.bool_]) -> Members:
        """Those of the `chosen` classes, bool [classes]."""
        return Members(self.positions[np.repeat(chosen, self.counts)], self.counts[chosen])

    def shuffled(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """`positions` with each class's in a new order."""
        order = rng.permutation(len(self.positions))
        owner = np.repeat(np.arange(len(self.counts)), self.counts)
        return self.positions[order[np.argsort(owner[order], kind="stable")]]


def members_of(classes: NDArray[np.int64], at_least: int) -> Members:
    """The positions of each class's photos, classes in the order of their numbers.

    Raises ValueError if a number is negative or there are fewer than `at_least` classes.
    """
    if len(classes) and classes.min() < 0:
        raise ValueError(f"photo {int(classes.argmin())} has class {classes.min()}; leave distractors out")
    numbers, counts = np.unique(classes, return_counts=True)
    if len(numbers) < at_least:
        raise ValueError(f"a batch has photos of {at_least} classes, and there are only {len(numbers)}")
    return Members(np.argsort(classes, kind="stable"), counts)


def cluster(means: NDArray[np.float32], clusters: int, at_least: int, seed: int, rounds: int) -> NDArray[np.int64]:
    """The cluster of each class by k-means over cosines, numbered from 0, int64 [classes].

    `means` float32 [classes, dimensions]. Without `rounds` the centres stay where they start, on random classes. While
    a cluster has fewer than `at_least` classes, the smallest is merged into the one whose mean is nearest, so that
    every class is in a cluster that can fill a batch.
    """
    units = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    units = np.ascontiguousarray(units, dtype=np.float32)
    k = min(clusters, len(units))
    centres = units[np.random.default_rng(seed).choice(len(units), k, replace=False)]
    if rounds > 0:
        centres = _kmeans(units, k, rounds, seed)
    numbers = (units @ centres.T).argmax(axis=1).astype(np.int64)
    return _merged(units, numbers, at_least)


def _kmeans(units: NDArray[np.float32], k: int, rounds: int, seed: int) -> NDArray[np.float32]:
    """k centres, unit vectors float32 [k, dimensions]; the best of several starts."""
    kmeans = faiss.Kmeans(
        units.shape[1],
        k,
        niter=rounds,
        nredo=KMEANS_STARTS,
        seed=seed % 2**31,
        spherical=True,
        min_points_per_centroid=1,
    )
    kmeans.train(units)
    return np.asarray(kmeans.centroids, dtype=np.float32)


def _merged(units: NDArray[np.float32], numbers: NDArray[np.int64], at_least: int) -> NDArray[np.int64]:
    """`numbers` without clusters of fewer than `at_least` classes, unless that leaves only one; see `cluster`."""
    while True:
        left, numbers, sizes = np.unique(numbers, return_inverse=True, return_counts=True)
        if len(left) == 1 or sizes.min() >= at_least:
            return numbers.astype(np.int64)
        sums = np.zeros((len(left), units.shape[1]))
        np.add.at(sums, numbers, units)
        centres = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
        smallest = int(sizes.argmin())
        nearness = centres @ centres[smallest]
        nearness[smallest] = -np.inf
        numbers = np.where(numbers == smallest, int(nearness.argmax()), numbers)


def _turns(members: Members, images: int) -> NDArray[np.int64]:
    """In how many batches each class would have to be to show all its photos, int64 [classes]."""
    return -(-members.counts // images)


def _batch_count(members: Members, per_batch: int, images: int) -> int:
    return math.ceil(int(_turns(members, images).sum()) / per_batch)


def _grouped(members: Members, per_batch: int, images: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Batches of `per_batch` different classes with `images` photos each, from at least `per_batch` classes: positions,
    int64 [batches, per_batch x images].
    """
    batches = _batch_count(members, per_batch, images)
    turns = _filled_turns(_turns(members, images), batches, batches * per_batch, rng)
    firsts = np.cumsum(members.counts) - members.counts
    order = rng.permutation(len(turns))
    # One turn after the other, the classes in a random order: the class of each, and which of the class's own it is.
    owner = np.repeat(order, turns[order])
    number = np.arange(len(owner)) - np.repeat(np.cumsum(turns[order]) - turns[order], turns[order])
    nth = number[:, None] * images + np.arange(images)  # photos of the class, from the first again after the last
    photos = members.shuffled(rng)[firsts[owner][:, None] + nth % members.counts[owner][:, None]]
    # Turns of a class go to batches in a row, of which it has no more than there are: never two to one batch.
    dealt = photos.reshape(per_batch, batches, images).transpose(1, 0, 2).reshape(batches, -1)
    return dealt[rng.permutation(batches)]  # type: ignore[no-any-return]


def _filled_turns(turns: NDArray[np.int64], most: int, wanted: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Turns of at most `most` a class, with more given to random classes until there are `wanted` in all."""
    turns = turns.clip(max=most)
    while (missing := wanted - int(turns.sum())) > 0:
        room = np.flatnonzero(turns < most)
        turns[rng.choice(room, min(missing, len(room)), replace=False)] += 1
    return turns


def _shuffled(classes: NDArray[np.int64], means: NDArray[np.float32], schedule: Schedule, seed: int) -> EpochBatches:
    return Shuffled(len(classes), schedule.batch_size, seed)


def _classes(classes: NDArray[np.int64], means: NDArray[np.float32], schedule: Schedule, seed: int) -> EpochBatches:
    how = schedule.sampler
    return ClassesByImages(classes, how.classes, how.images, seed)


def _subspaces(classes: NDArray[np.int64], means: NDArray[np.float32], schedule: Schedule, seed: int) -> EpochBatches:
    how = schedule.sampler
    return Subspaces(classes, means, how.subspaces, how.classes, how.images, seed, how.rounds)


# name -> batches, from (class of each photo int64 [photos], mean features float32 [classes, width], schedule, seed)
SAMPLERS: dict[str, Callable[[NDArray[np.int64], NDArray[np.float32], Schedule, int], EpochBatches]] = {
    "shuffled": _shuffled,
    "classes": _classes,
    "subspaces": _subspaces,
}
