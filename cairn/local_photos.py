"""What a re-ranker that compares photos point by point is given: the local features of a photo, by its number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cairn.locations import Readers
from cairn.networks import keypoints
from cairn.params import Params
from cairn.photos import decode
from cairn.progress import progress
from cairn.retrieval import local
from cairn.retrieval.local.features import Extractor, Features
from cairn.retrieval.local.pixels import reduced
from cairn.retrieval.local.remembered import remembered
from cairn.retrieval.rerankers import Step
from cairn.retrieval.rerankers.base import Context
from cairn.retrieval.rerankers.local_features import LocalFeaturesParams
from cairn.sides import DATABASE, QUERIES, Sides, embedding_locations, image_numbers
from cairn.stage import MODEL

KEPT_BYTES = 2**30  # of features, a step: 2,000 photos of 1000 features of SIFT or ALIKED

ReadPhoto = Callable[[int], NDArray[np.uint8]]  # image number -> RGB uint8 [height, width, 3]


def local_steps(steps: Sequence[Step]) -> list[LocalFeaturesParams]:
    """Those of the steps that compare photos."""
    return [step for step in steps if isinstance(step, LocalFeaturesParams)]


def with_features(
    context: Context, sides: Sides, steps: Sequence[Step], params: Params, model: Path = MODEL
) -> Context:
    """The context with what the steps that compare photos need, and a progress bar; unchanged if none does.

    Photos are known by their image numbers, `model` is the trained network's folder. What was made of a photo is
    remembered for all chains that are built with this context. Raises BackboneError, FileNotFoundError or ValueError
    where an extractor cannot be had.
    """
    compared = local_steps(steps)
    if not compared:
        return context
    read = reader(sides, params)
    train = image_numbers(sides.images)[sides.rows("train")].tolist()

    def sample() -> Iterator[NDArray[np.uint8]]:
        return (read(number) for number in train)

    return replace(context, features={step: features_of(step, read, model, sample()) for step in compared}, watch=watch)


def features_of(
    step: LocalFeaturesParams, read: ReadPhoto, model: Path, sample: Iterable[NDArray[np.uint8]]
) -> Callable[[int], Features]:
    """From an image number to the photo's features, the latest KEPT_BYTES of them remembered."""
    extract: Extractor
    if step.extractor in local.EXTRACTORS:
        extract = local.EXTRACTORS[step.extractor](step.max_features, step.min_strength)
    else:
        extract = keypoints.EXTRACTORS[step.extractor](step, model, sample)
    return remembered(lambda number: extract(reduced(read(number), step.size)), KEPT_BYTES)


def reader(sides: Sides, params: Params) -> ReadPhoto:
    """A reader of the index's photos and of queries, each decoded anew.

    Those of the index are read from the cleaned shards, queries from the raw ones, as a server gets them. Both are
    decoded at `clean.short_side`, the size that the index's are stored at, so that neither has finer detail than the
    other; for finer features raise that param. The reader raises KeyError for other photos, ShardError, or DecodeError.
    """
    numbers, everywhere, readers = image_numbers(sides.images), embedding_locations(sides), Readers()
    rows = np.concatenate([sides.rows(*DATABASE), sides.rows(*QUERIES, distractors=True)])
    places = {int(numbers[row]): everywhere[row] for row in rows}
    clean = params.clean

    def read(number: int) -> NDArray[np.uint8]:
        return np.asarray(decode(readers.read(places[number]), clean.short_side, clean.max_megapixels))

    return read


def watch(rows: Sequence[int], what: str) -> Iterable[int]:
    """The rows behind a progress bar."""
    return progress(rows, what, unit="query")
