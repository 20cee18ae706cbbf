"""Unit vectors to nearest photos and an answer: the work of the Triton model `retrieve`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cairn.manifest import NONE, as_image_id, read_landmarks
from cairn.retrieval.answer import answered, rule_of
from cairn.retrieval.context import CONTEXT_FOLDER, open_context
from cairn.retrieval.entries import ENTRIES_FILE, Entries
from cairn.retrieval.index import PhotoIndex
from cairn.retrieval.neighbours import Neighbours
from cairn.retrieval.rerankers.chain import build_chain
from cairn.retrieval.result import Answers
from cairn.serving.threads import threads

SHOWN = 10  # neighbours sent with an answer, whatever number the rule looks at
NO_SCORE = np.float32(-1)  # where there is none, in place of -inf, which JSON cannot carry


class Names:
    """The landmarks' names, looked up where they are shown."""

    def __init__(self, landmarks: pa.Table) -> None:
        """`landmarks` has the columns of `cairn.manifest.LANDMARKS`, and is sorted by landmark id."""
        self._ids = landmarks["landmark_id"].to_numpy()
        self._names = landmarks["name"].combine_chunks()

    def without(self, landmark_ids: NDArray[np.int64]) -> list[int]:
        """Those of `landmark_ids` that have no name."""
        found: list[int] = np.setdiff1d(landmark_ids, self._ids).tolist()
        return found

    def __call__(self, landmark_ids: NDArray[np.int64]) -> NDArray[np.object_]:
        """Names as UTF-8 bytes, in the shape of `landmark_ids`; empty for NONE and for a landmark without one."""
        at = np.searchsorted(self._ids, landmark_ids).clip(0, max(0, len(self._ids) - 1))
        names = as_bytes(self._names.take(pa.array(at.ravel())).to_pylist()).reshape(landmark_ids.shape)
        return np.where(self._ids[at] == landmark_ids, names, b"")


class Retriever:
    """The index, the landmarks' names and the rule of the answer."""

    def __init__(self, folder: Path, version: int) -> None:
        """`version` is the number that answers carry; one search is made, so that the first answer is a fast one.

        Raises FormError, PhotoIndexError, EntriesError or ManifestError, naming the file that is missing or
        wrong, and ValueError if an indexed landmark has no name.
        """
        faiss.omp_set_num_threads(threads())
        self._version = version
        self._rule = rule_of(folder)
        self._chain = build_chain(self._rule.steps, open_context(folder / CONTEXT_FOLDER))
        self._entries = Entries.open(folder / ENTRIES_FILE)
        self._index = PhotoIndex.with_entries(folder, self._entries)
        self._names = Names(read_landmarks(folder))
        nameless = self._names.without(self._entries.landmarks())
        if nameless:
            raise ValueError(f"{folder}: landmarks {nameless[:5]} are in {ENTRIES_FILE} but not in landmarks.parquet")
        self._any = np.eye(1, self._index.dimensions, dtype=np.float32)  # stands in for a row that has no answer
        self(self._any)

    def __call__(
        self, embeddings: NDArray[np.float32], errors: NDArray[np.object_] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Unit vectors float32 [n, dimensions] -> the outputs of `retrieve`, each with n rows.

        landmark_id int64 [n, 1], NONE where the photo shows none; landmark bytes [n, 1], empty where none;
        score and probability float32 [n, 1]; neighbours bytes [n, k], image ids, empty behind the last one found;
        neighbour_scores float32 [n, k]; neighbour_landmark_ids int64 [n, k]; neighbour_landmarks and
        neighbour_attributions bytes [n, k]; index_version int64 [n, 1]. k is SHOWN, or less if the rule has less.

        `errors` bytes [n, 1] say what is wrong with a row, if something is. Such a row, and one that is not finite, has
        no landmark, score -1, probability NaN and no neighbours; the others are answered as if it were not there.

        Raises ValueError if the vectors are not as long as the index's.
        """
        if embeddings.shape[1] != self._index.dimensions:
            raise ValueError(
                f"embeddings of {embeddings.shape[1]} dimensions, the index holds {self._index.dimensions}; "
                "network and index are not of one export"
            )
        bad = ~np.asarray(np.isfinite(embeddings).all(axis=1), dtype=np.bool_)
        if errors is not None:
            bad |= errors.ravel() != b""
        found = self._answers(np.where(bad[:, None], self._any, embeddings))
        for name, rows in found.items():
            rows[bad] = EMPTY[name]
        return {**found, "index_version": np.full((len(bad), 1), self._version, dtype=np.int64)}

    def _answers(self, embeddings: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        result = answered(embeddings, self._index, self._rule.neighbours, self._chain)
        return {**self._answered(result.decided), **self._shown(result.neighbours)}

    def _answered(self, answers: Answers) -> dict[str, NDArray[Any]]:
        sure = (answers.landmark_ids != NONE) & (answers.scores >= self._rule.threshold)
        ids = np.where(sure, answers.landmark_ids, NONE)[:, None]
        return {
            "landmark_id": ids,
            "landmark": self._names(ids),
            "score": _carried(answers.scores)[:, None],
            "probability": self._probabilities(answers.scores)[:, None],
        }

    def _probabilities(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """That each answer is right, whatever the threshold; NaN where nothing could be learnt of that."""
        calibration = self._rule.calibration
        if calibration is None:
            return np.full(len(scores), np.nan, dtype=np.float32)
        return calibration.probability(scores).astype(np.float32)

    def _shown(self, found: Neighbours) -> dict[str, NDArray[Any]]:
        """The first SHOWN neighbours of each query."""
        numbers, landmarks = found.image_ids[:, :SHOWN], found.landmark_ids[:, :SHOWN]
        there = landmarks != NONE
        ids = as_bytes([as_image_id(number) for number in numbers.ravel().tolist()]).reshape(numbers.shape)
        rows = self._entries.rows(numbers).ravel()
        attributions = as_bytes(self._entries.attributions(rows)).reshape(numbers.shape)
        return {
            "neighbours": np.where(there, ids, b""),
            "neighbour_scores": _carried(found.scores[:, :SHOWN]),
            "neighbour_landmark_ids": landmarks.copy(),
            "neighbour_landmarks": self._names(landmarks),
            "neighbour_attributions": np.where(there, attributions, b""),
        }


def _carried(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores with NO_SCORE where there is none."""
    return np.where(np.isneginf(scores), NO_SCORE, scores)


# What a row holds where there is no answer.
EMPTY: dict[str, Any] = {
    "landmark_id": NONE,
    "landmark": b"",
    "score": NO_SCORE,
    "probability": np.nan,
    "neighbours": b"",
    "neighbour_scores": NO_SCORE,
    "neighbour_landmark_ids": NONE,
    "neighbour_landmarks": b"",
    "neighbour_attributions": b"",
}


def as_bytes(texts: list[str]) -> NDArray[np.object_]:
    """UTF-8, an object array [texts] as Triton wants it."""
    return np.array([text.encode() for text in texts], dtype=np.object_)
