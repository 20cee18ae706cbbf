"""What re-rankers need beside the index, kept in a folder that `evaluate` writes and the server opens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cairn.retrieval.rerankers import Step
from cairn.retrieval.rerankers.base import Context
from cairn.retrieval.rerankers.classifier import CLASSIFIER_FILE, SavedClassifier, open_classifier
from cairn.retrieval.rerankers.prototypes import PROTOTYPES_FILE, Prototypes
from cairn.retrieval.rerankers.similarity import VectorsById

CONTEXT_FOLDER = "context"
DISTRACTORS_FILE = "distractors.npy"  # unit vectors float32 [n, dimensions] of the train side
VECTORS_FILE, VECTOR_IDS_FILE = "vectors.npy", "vector_ids.npy"  # of index photos, where a step looks them up
BOOSTED_FILE = "boosted.txt"


def save_context(
    folder: Path, steps: Sequence[Step], context: Context, ids: NDArray[np.int64], vectors: NDArray[np.float32]
) -> None:
    """Write what `steps` need: ids int64 [n] and unit vectors float32 [n, dimensions] are the index's."""
    folder.mkdir()
    if context.distractors is not None:
        np.save(folder / DISTRACTORS_FILE, context.distractors)
    if any(step.looks_up_vectors for step in steps):
        np.save(folder / VECTOR_IDS_FILE, ids)
        np.save(folder / VECTORS_FILE, vectors)
    if isinstance(context.classifier, SavedClassifier) and any(step.asks_classifier for step in steps):
        context.classifier.save(folder / CLASSIFIER_FILE)
    if context.prototypes is not None and any(step.asks_prototypes for step in steps):
        context.prototypes.save(folder / PROTOTYPES_FILE)
    if context.boosted_model is not None:
        (folder / BOOSTED_FILE).write_text(context.boosted_model)


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
