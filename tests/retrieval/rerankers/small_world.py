"""A small invented world: landmarks as clusters of unit vectors, distractors beside them, and a search over all."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from retrieval.made_index import made_index

from cairn.manifest import NONE
from cairn.retrieval.index import PhotoIndex
from cairn.retrieval.rerankers.base import Context
from cairn.retrieval.rerankers.classifier import CosineClassifier
from cairn.retrieval.rerankers.similarity import VectorsById
from cairn.retrieval.result import Result, searched

LANDMARKS, PHOTOS, DIMENSIONS = 12, 6, 16


class World(NamedTuple):
    result: Result
    true: NDArray[np.int64]
    context: Context
    ids: NDArray[np.int64]  # of index photos
    vectors: NDArray[np.float32]  # of index photos
    landmark_ids: NDArray[np.int64]  # of index photos


def unit(vectors: np.ndarray) -> NDArray[np.float32]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), dtype=np.float32)


def make_world(seed: int, queries: int = 40, spread: float = 0.3) -> World:
    """The last quarter of the queries are distractors; landmark 2 k has centre k, the odd ones do not exist."""
    rng = np.random.default_rng(seed)
    centres = unit(rng.normal(size=(LANDMARKS, DIMENSIONS)))
    labels = np.repeat(np.arange(LANDMARKS), PHOTOS)
    vectors = unit(centres[labels] + spread * rng.normal(size=(len(labels), DIMENSIONS)))
    ids = rng.choice(10**6, len(labels), replace=False).astype(np.int64) - 500_000
    shown = np.arange(queries) % LANDMARKS
    seen = unit(centres[shown] + spread * rng.normal(size=(queries, DIMENSIONS)))
    nothing = np.arange(queries) >= queries * 3 // 4
    seen[nothing] = unit(rng.normal(size=(int(nothing.sum()), DIMENSIONS)))
    index = PhotoIndex(made_index(vectors, ids), ids, 2 * labels)
    context = Context(
        vectors=VectorsById(ids, vectors),
        distractors=unit(rng.normal(size=(30, DIMENSIONS))),
        classifier=CosineClassifier(2 * np.arange(LANDMARKS - 2), centres[:-2, None], 8.0),
    )
    return World(
        searched(seen, index.search(seen, 20)), np.where(nothing, NONE, 2 * shown), context, ids, vectors, 2 * labels
    )
