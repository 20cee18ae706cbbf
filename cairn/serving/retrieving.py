"""Unit vectors to nearest photos and an answer: the work of the Triton model `retrieve`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cairn.manifest import as_image_id, read_landmarks
from cairn.retrieval.answer import ANSWER_FILE, AnswerRule, answered
from cairn.retrieval.context import CONTEXT_FOLDER, open_context
from cairn.retrieval.index import ENTRIES_FILE, PhotoIndex
from cairn.retrieval.neighbours import NONE, Neighbours
from cairn.retrieval.rerankers.chain import build_chain
from cairn.retrieval.result import Answers
from cairn.serving.threads import threads

SHOWN = 10  # neighbours sent with an answer, whatever number the rule looks at
NO_SCORE = np.float32(-1)  # in place of -inf, which JSON cannot carry; no score is lower


class Retriever:
    """The index, the landmarks' names and the rule of the answer."""

    def __init__(self, folder: Path) -> None:
        """Raises FileNotFoundError, PhotoIndexError or ManifestError, naming the file that is missing or wrong, and
        ValueError if an indexed landmark has no name.
        """
        faiss.omp_set_num_threads(threads())
        self._rule = AnswerRule.model_validate_json((folder / ANSWER_FILE).read_text())
        self._chain = build_chain(self._rule.steps, open_context(folder / CONTEXT_FOLDER))
        self._index = PhotoIndex.open(folder)
        landmarks = read_landmarks(folder)
        pairs = zip(landmarks["landmark_id"].to_pylist(), landmarks["name"].to_pylist(), strict=True)
        self._names: dict[int, str] = dict(pairs)
        indexed = pq.read_table(folder / ENTRIES_FILE, columns=["landmark_id"])["landmark_id"].unique().to_pylist()
        nameless = sorted(set(indexed) - set(self._names))
        if nameless:
            raise ValueError(f"{folder}: landmarks {nameless[:5]} are in {ENTRIES_FILE} but not in landmarks.parquet")

    def __call__(self, embeddings: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Unit vectors float32 [n, dimensions] -> the outputs of `retrieve`, each with n rows.

        landmark_id int64 [n, 1], NONE where the photo shows none; landmark bytes [n, 1], empty where none;
        score and probability float32 [n, 1]; neighbours bytes [n, k], image ids, empty behind the last one found;
        neighbour_scores float32 [n, k]; neighbour_landmark_ids int64 [n, k]. k is SHOWN, or less if the rule has less.

        Raises ValueError if the vectors are not as long as the index's.
        """
        if embeddings.shape[1] != self._index.dimensions:
            raise ValueError(
                f"embeddings of {embeddings.shape[1]} dimensions, the index holds {self._index.dimensions}; "
                "network and index are not of one export"
            )
        result = answered(embeddings, self._index, self._rule.neighbours, self._chain)
        return {**self._answered(result.decided), **_shown(result.neighbours)}

    def _answered(self, answers: Answers) -> dict[str, NDArray[Any]]:
        sure = (answers.landmark_ids != NONE) & (answers.scores >= self._rule.threshold)
        ids = np.where(sure, answers.landmark_ids, NONE)
        names = [self._names[i] if i != NONE else "" for i in ids.tolist()]
        return {
            "landmark_id": ids[:, None],
            "landmark": _as_bytes(names)[:, None],
            "score": np.maximum(answers.scores, NO_SCORE)[:, None],
            "probability": self._probabilities(answers.scores)[:, None],
        }

    def _probabilities(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """That each answer is right, whatever the threshold; NaN where nothing could be learnt of that."""
        calibration = self._rule.calibration
        if calibration is None:
            return np.full(len(scores), np.nan, dtype=np.float32)
        return calibration.probability(scores).astype(np.float32)


def _shown(found: Neighbours) -> dict[str, NDArray[Any]]:
    """The first SHOWN neighbours of each query."""
    numbers, landmarks = found.image_ids[:, :SHOWN], found.landmark_ids[:, :SHOWN]
    ids = [as_image_id(int(number)) for number in numbers.ravel()]
    return {
        "neighbours": np.where(landmarks == NONE, b"", _as_bytes(ids).reshape(numbers.shape)),
        "neighbour_scores": np.maximum(found.scores[:, :SHOWN], NO_SCORE),
        "neighbour_landmark_ids": np.ascontiguousarray(landmarks),
    }


def _as_bytes(texts: list[str]) -> NDArray[np.object_]:
    return np.array([text.encode() for text in texts], dtype=np.object_)
