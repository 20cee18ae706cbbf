"""What re-rankers need beside the index, kept in a folder that `evaluate` writes and the server opens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cairn.files import written_aside
from cairn.retrieval.rerankers import Step
from cairn.retrieval.rerankers.base import Context
from cairn.retrieval.rerankers.classifier import CLASSIFIER_FILE, SavedClassifier, open_classifier
from cairn.retrieval.rerankers.prototypes import PROTOTYPES_FILE, Prototypes
from cairn.retrieval.rerankers.similarity import VectorsById
from cairn.retrieval.vectors import ROWS, UnitVectors

CONTEXT_FOLDER = "context"
DISTRACTORS_FILE = "distractors.npy"  # unit vectors float32 [n, dimensions] of the train side
VECTORS_FILE, VECTOR_IDS_FILE = "vectors.npy", "vector_ids.npy"  # of index photos, where a step looks them up
BOOSTED_FILE = "boosted.txt"


def save_context(
    folder: Path,
    steps: Sequence[Step],
    context: Context,
    ids: NDArray[np.int64],
    vectors: UnitVectors,
    photos: NDArray[np.int64] | None = None,
) -> None:
    """Write what `steps` need: ids int64 [n] are the index's photos', `vectors` float32 [any, dimensions] theirs.

    photos: where each photo's vector is, int64 [n]; none: they are in the order of the ids.
    """
    folder.mkdir()
    if context.distractors is not None and any(step.asks_distractors for step in steps):
        np.save(folder / DISTRACTORS_FILE, context.distractors)
    if any(step.looks_up_vectors for step in steps):
        at = np.arange(len(ids)) if photos is None else photos
        _save_vectors(folder, ids, lambda rows: vectors[at[rows]], vectors.shape[1])
    if isinstance(context.classifier, SavedClassifier) and any(step.asks_classifier for step in steps):
        context.classifier.save(folder / CLASSIFIER_FILE)
    if context.prototypes is not None and any(step.asks_prototypes for step in steps):
        context.prototypes.save(folder / PROTOTYPES_FILE)
    if context.boosted_model is not None:
        (folder / BOOSTED_FILE).write_text(context.boosted_model)


@dataclass(frozen=True)
class Update:
    """How the photos of an index changed.

    removed: image ids int64 [r]
    added, vectors, landmark_ids: image ids int64 [n], unit vectors float32 [n, dimensions], and what they show
    touched: landmarks that lost or got photos, int64
    kept_vectors, kept_landmark_ids: of the photos that these landmarks had before and have still
    """

    removed: NDArray[np.int64]
    added: NDArray[np.int64]
    vectors: NDArray[np.float32]
    landmark_ids: NDArray[np.int64]
    touched: NDArray[np.int64]
    kept_vectors: NDArray[np.float32]
    kept_landmark_ids: NDArray[np.int64]


def update_context(folder: Path, update: Update) -> None:
    """Bring what `save_context` wrote into `folder` up to the index's photos of now.

    What was learnt (classifier, learned re-ranker) and the distractors stay as they are.
    """
    prototypes, vectors = folder / PROTOTYPES_FILE, folder / VECTORS_FILE
    if prototypes.exists():
        now = np.concatenate([update.kept_vectors, update.vectors])
        shown = np.concatenate([update.kept_landmark_ids, update.landmark_ids])
        changed = Prototypes.open(prototypes).changed(now, shown, update.touched)
        with written_aside(prototypes) as aside:
            changed.save(aside)
    if vectors.exists():
        _update_vectors(folder, update)


def _update_vectors(folder: Path, update: Update) -> None:
    old_ids, old = np.load(folder / VECTOR_IDS_FILE), np.load(folder / VECTORS_FILE, mmap_mode="r")
    kept = np.flatnonzero(~np.isin(old_ids, update.removed))
    ids = np.concatenate([old_ids[kept], update.added])

    def rows(wanted: NDArray[np.int64]) -> NDArray[np.float32]:
        found = np.empty((len(wanted), old.shape[1]), dtype=np.float32)
        is_old = wanted < len(kept)
        found[is_old] = old[kept[wanted[is_old]]]
        found[~is_old] = update.vectors[wanted[~is_old] - len(kept)]
        return found

    _save_vectors(folder, ids, rows, old.shape[1])


def _save_vectors(
    folder: Path, ids: NDArray[np.int64], rows: Callable[[NDArray[np.int64]], NDArray[np.float32]], dimensions: int
) -> None:
    """Write `ids` rising, so that opening need not sort them, and their vectors in the same order.

    `rows` gives the vectors at positions of `ids`, part by part: the file may be larger than the memory.
    """
    order = np.argsort(ids, kind="stable")
    header = {"descr": np.dtype(np.float32).str, "fortran_order": False, "shape": (len(ids), dimensions)}
    with written_aside(folder / VECTORS_FILE) as aside, aside.open("wb") as out:  # mapped, a full disk would be SIGBUS
        np.lib.format.write_array_header_1_0(out, header)
        for start in range(0, len(ids), ROWS):
            out.write(np.ascontiguousarray(rows(order[start : start + ROWS]), np.float32).data)
    with written_aside(folder / VECTOR_IDS_FILE) as aside, aside.open("wb") as out:
        np.save(out, ids[order])


def open_context(folder: Path) -> Context:
    """What `save_context` wrote; vectors of index photos stay on disk until they are looked up."""
    distractors, vectors, boosted = (folder / name for name in (DISTRACTORS_FILE, VECTORS_FILE, BOOSTED_FILE))
    classifier, prototypes, by_id = folder / CLASSIFIER_FILE, folder / PROTOTYPES_FILE, None
    if vectors.exists():
        by_id = VectorsById(np.load(folder / VECTOR_IDS_FILE), np.load(vectors, mmap_mode="r"))
    return Context(
        vectors=by_id,
        distractors=np.load(distractors) if distractors.exists() else None,
        classifier=open_classifier(classifier) if classifier.exists() else None,
        prototypes=Prototypes.open(prototypes) if prototypes.exists() else None,
        boosted_model=boosted.read_text() if boosted.exists() else None,
    )
