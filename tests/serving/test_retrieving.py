"""The outputs of `retrieve`, without a server."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from serving.tiny_repository import DIMENSIONS, NAMES, RULE, Tiny, embed_offline

from cairn.files import write_json, write_table
from cairn.manifest import as_number, image_id_of, write_landmarks
from cairn.retrieval.answer import AnswerRule
from cairn.retrieval.index import ENTRIES_FILE, INDEX_FILE, build_index, write_index
from cairn.retrieval.rerankers.knn_vote import KnnVoteParams
from cairn.serving.retrieving import SHOWN, Retriever

IDS = [image_id_of(name) for name in ("a", "b", "c")]


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """An index of three photos, whose vectors are the first three axes."""
    numbers = np.array([as_number(i) for i in IDS])
    write_index(build_index(np.eye(3, 4, dtype=np.float32), numbers, "Flat", None), tmp_path / INDEX_FILE)
    write_table(tmp_path / ENTRIES_FILE, pa.table({"image_id": IDS, "landmark_id": [7, 9, 9]}))
    write_landmarks(tmp_path, pa.table({"landmark_id": [7, 9], "name": ["Ä", "B"], "category": [None, "c"]}))
    save_rule(tmp_path, threshold=0.5)
    return tmp_path


def save_rule(folder: Path, threshold: float) -> None:
    nearest = KnnVoteParams(top=1, power=1, clip=False)
    rule = AnswerRule(neighbours=20, steps=(nearest,), threshold=threshold, calibration=None)
    write_json(folder / "answer.json", rule.model_dump())


def test_fewer_photos_than_neighbours(three: Path) -> None:
    out = Retriever(three)(np.array([[0.8, 0.6, 0, 0], [0, 0, 1, 0]], dtype=np.float32))
    assert out["landmark_id"].tolist() == [[7], [9]]
    assert [name.decode() for name in out["landmark"].ravel()] == ["Ä", "B"]
    np.testing.assert_allclose(out["score"], [[0.8], [1.0]], atol=1e-6)
    assert [i.decode() for i in out["neighbours"][0]] == IDS + [""] * (SHOWN - 3)
    assert out["neighbour_landmark_ids"][0].tolist() == [7, 9, 9] + [-1] * (SHOWN - 3)
    np.testing.assert_allclose(out["neighbour_scores"][0], [0.8, 0.6, 0.0] + [-1] * (SHOWN - 3), atol=1e-6)


def test_a_score_at_the_threshold_is_an_answer_and_one_below_is_none(three: Path) -> None:
    out = Retriever(three)(np.array([[0.5, 0, 0, 0.75**0.5], [0.49, 0, 0, 0.8717]], dtype=np.float32))
    assert out["landmark_id"].tolist() == [[7], [-1]]
    assert out["landmark"].ravel().tolist() == ["Ä".encode(), b""]
    assert np.isnan(out["probability"]).all()  # nothing was learnt of how sure to be
    np.testing.assert_allclose(out["score"], [[0.5], [0.49]], atol=1e-6)


def test_an_index_that_finds_fewer_fills_up_with_empty_ones(three: Path) -> None:
    """Two lists, one probed: each query sees only one of the clusters."""
    vectors = np.repeat(np.eye(2, 4, dtype=np.float32), 40, axis=0)
    ids = sorted(image_id_of(str(i)) for i in range(80))
    index = build_index(vectors, np.array([as_number(i) for i in ids]), "IVF2,Flat", 1)
    index.remove_ids(np.array([as_number(i) for i in ids[2:40]]))
    kept = ids[:2] + ids[40:]
    write_index(index, three / INDEX_FILE)
    write_table(three / ENTRIES_FILE, pa.table({"image_id": kept, "landmark_id": [7] * 2 + [9] * 40}))
    out = Retriever(three)(np.array([[1, 0, 0, 0], [0, 1, 0, 0]], dtype=np.float32))
    assert out["landmark_id"].tolist() == [[7], [9]]
    assert [bool(i) for i in out["neighbours"][0]] == [True] * 2 + [False] * (SHOWN - 2)
    assert out["neighbour_landmark_ids"][0].tolist() == [7] * 2 + [-1] * (SHOWN - 2)
    assert out["neighbour_scores"][0].tolist() == [1] * 2 + [-1] * (SHOWN - 2)
    assert all(out["neighbours"][1])


def test_no_more_than_shown(tiny: Tiny) -> None:
    vectors = embed_offline(tiny.repository / "embed" / "1" / "model.onnx", list(tiny.known.values()))
    out = Retriever(tiny.repository / "retrieve" / "1")(vectors)
    assert RULE.neighbours > SHOWN
    assert {name: array.shape for name, array in out.items()} == {
        "landmark_id": (3, 1),
        "landmark": (3, 1),
        "score": (3, 1),
        "probability": (3, 1),
        "neighbours": (3, SHOWN),
        "neighbour_scores": (3, SHOWN),
        "neighbour_landmark_ids": (3, SHOWN),
    }
    assert out["landmark_id"].ravel().tolist() == list(NAMES)


def test_vectors_of_another_length(tiny: Tiny) -> None:
    retrieve = Retriever(tiny.repository / "retrieve" / "1")
    with pytest.raises(ValueError, match=f"embeddings of 8 dimensions, the index holds {DIMENSIONS}; .* one export"):
        retrieve(np.ones((1, 8), dtype=np.float32))


def test_an_indexed_landmark_without_a_name(tiny: Tiny, tmp_path: Path) -> None:
    folder = tmp_path / "1"
    shutil.copytree(tiny.repository / "retrieve" / "1", folder)
    write_landmarks(folder, pa.table({"landmark_id": [3, 5], "name": ["a", "b"], "category": ["", ""]}))
    with pytest.raises(ValueError, match=r"landmarks \[8\] are in entries.parquet but not in landmarks.parquet"):
        Retriever(folder)
