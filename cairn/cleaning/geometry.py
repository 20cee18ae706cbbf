"""Labels that no other photo confirms by its geometry: too few neighbours of the label show the same surfaces.

After the cleaning of GLDv2 by the recognition challenge's 2019 winners: an image stays with 2 to 3 photos of its class
among its 100 nearest that have 30 inliers or more. Theirs are of an affine map, by RANSAC; these are of a homography.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from cairn.cleaning.neighbours import Doubts, Surroundings
from cairn.cleaning.spread import places_of, spread
from cairn.manifest import NONE
from cairn.params import GeometryVoteParams
from cairn.photos import decode
from cairn.progress import progress
from cairn.retrieval.local import EXTRACTORS
from cairn.retrieval.local.features import Extractor, Features
from cairn.retrieval.local.matching import inliers, matches
from cairn.retrieval.local.pixels import reduced
from cairn.shards import Member, ShardReader

MAX_FEATURES = 1000
RATIO = 0.85  # nearest distance over second
PIXELS = 4.0  # an inlier lies within so many of where it should
TRIALS = 2000
KEPT = 512  # photos whose features are remembered: about half a megabyte each
TOGETHER = 64  # distractors looked at in one go


class Check(NamedTuple):
    """A photo, how many are near it, those of them it is compared with, and how many of one label must fit."""

    row: int
    near: int
    candidates: list[int]
    needed: int


class Task(NamedTuple):
    """Checks that share photos, and where and of which label those are, by row."""

    checks: list[Check]
    places: dict[int, Member]
    labels: dict[int, int]


class Fit(NamedTuple):
    """How many of a check's candidates fit, of the label that most of them have."""

    check: Check
    label: int
    friends: int


def doubts_by_geometry(
    raw: Path,
    images: pa.Table,
    around: Surroundings,
    rows: Iterable[int],
    params: GeometryVoteParams,
    workers: int,
    max_megapixels: float,
) -> Doubts:
    """Of `rows`, the landmark photos that too few neighbours of their label fit, and distractors that a landmark fits.

    images: rows of the raw manifest, in the order of `around`
    rows: of the photos to look at

    A landmark photo needs params.min_friends, or as many as its landmark has other groups of near duplicates.
    """
    checks = [check for row in rows if (check := _check(around, row, params)).needed]
    tasks = list(_tasks(checks, around, places_of(images)))
    doubts: Doubts = {}
    bar: tqdm[None]
    with progress((), "compare photos by geometry", total=len(checks)) as bar:
        for fits in spread(partial(compare, raw, params, max_megapixels), tasks, workers):
            for fit in fits:
                said = _doubt(fit, int(around.labels[fit.check.row]))
                if said:
                    doubts[fit.check.row] = said
            bar.update(len(fits))
    return doubts


def _check(around: Surroundings, row: int, params: GeometryVoteParams) -> Check:
    label, voters = int(around.labels[row]), around.voters(row, params.neighbours)
    if label == NONE:
        shown = [other for other in voters if around.labels[other] != NONE]
        return Check(row, len(voters), shown, params.min_friends)
    same = [other for other in voters if around.labels[other] == label]
    return Check(row, len(voters), same, min(params.min_friends, int(around.independent[row])))


def _tasks(checks: list[Check], around: Surroundings, places: list[Member]) -> Iterator[Task]:
    """A task a landmark, whose photos are compared with each other; distractors some at a time."""
    alike: dict[tuple[int, int], list[Check]] = defaultdict(list)
    for number, check in enumerate(checks):
        label = int(around.labels[check.row])
        alike[label, number // TOGETHER if label == NONE else 0].append(check)
    for together in alike.values():
        rows = sorted({row for check in together for row in (check.row, *check.candidates)})
        yield Task(together, {row: places[row] for row in rows}, {row: int(around.labels[row]) for row in rows})


def compare(raw: Path, params: GeometryVoteParams, max_megapixels: float, task: Task) -> list[Fit]:
    """The fits of a task's checks; each photo's features are made once, and each pair is compared once."""
    extract = EXTRACTORS["sift"](MAX_FEATURES, 0)
    with ShardReader(raw) as reader:

        @lru_cache(KEPT)
        def features(row: int) -> Features:
            place = task.places[row]
            content = reader.read(place.shard, place.offset, place.size)
            return features_of(content, extract, params.size, max_megapixels)

        known: dict[tuple[int, int], bool] = {}

        def fit(a: int, b: int) -> bool:
            pair = (min(a, b), max(a, b))
            if pair not in known:
                known[pair] = fits(features(pair[0]), features(pair[1]), params.min_inliers)
            return known[pair]

        return [_fit(check, task.labels, fit) for check in task.checks]


def _fit(check: Check, labels: dict[int, int], fit: Callable[[int, int], bool]) -> Fit:
    """Candidates are compared, nearest first, until as many of one label fit as are needed."""
    friends: Counter[int] = Counter()
    for other in check.candidates:
        friends[labels[other]] += fit(check.row, other)
        if friends[labels[other]] == check.needed:
            break
    label, most = max(friends.items(), key=lambda item: (item[1], -item[0]), default=(NONE, 0))
    return Fit(check, label, most)


def features_of(content: bytes, extract: Extractor, size: int, max_megapixels: float) -> Features:
    """Local features of a photo's bytes, its longer side made at most `size` pixels. Raises DecodeError."""
    return extract(reduced(np.asarray(decode(content, size, max_megapixels)), size))


def fits(a: Features, b: Features, needed: int) -> bool:
    """Whether one homography explains at least `needed` matched features of two photos."""
    pairs = matches(a, b, mutual=True, ratio=RATIO, max_distance=None)
    if len(pairs) < needed:  # most pairs, and the search for the best homography takes longest where there is none
        return False
    inside = inliers(a.points[pairs[:, 0]], b.points[pairs[:, 1]], "homography", PIXELS, TRIALS, seed=0)
    return int(inside.sum()) >= needed


def _doubt(fit: Fit, label: int) -> str | None:
    """What is said against a photo's label; none where nothing is."""
    reached, tried = fit.friends >= fit.check.needed, len(fit.check.candidates)
    if label == NONE:
        return (
            f"{fit.friends} of its nearest photos show landmark {fit.label} and fit geometrically" if reached else None
        )
    if reached:
        return None
    return f"{fit.friends} of {fit.check.near} nearest photos share its label and fit geometrically ({tried} share it)"
