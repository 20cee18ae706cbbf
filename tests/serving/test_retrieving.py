"""The outputs of `retrieve`, without a server."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from retrieval.made_entries import entries_table
from retrieval.made_index import made_index
from serving.tiny_repository import DIMENSIONS, NAMES, RULE, Tiny, embed_offline
from tritonclient import grpc

from cairn.files import write_json
from cairn.manifest import as_number, image_id_of, write_landmarks
from cairn.retrieval.answer import AnswerRule
from cairn.retrieval.context import CONTEXT_FOLDER, save_context
from cairn.retrieval.entries import ENTRIES_FILE, write_entries
from cairn.retrieval.index import INDEX_FILE, write_index
from cairn.retrieval.rerankers.base import Context
from cairn.retrieval.rerankers.distractor_penalty import DistractorPenaltyParams
from cairn.retrieval.rerankers.knn_vote import KnnVoteParams
from cairn.serving.retrieving import SHOWN, Retriever

IDS = [image_id_of(name) for name in ("a", "b", "c")]


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """An index of three photos, whose vectors are the first three axes."""
    numbers = np.array([as_number(i) for i in IDS])
    write_index(made_index(np.eye(3, 4, dtype=np.float32), numbers), tmp_path / INDEX_FILE)
    entries = entries_table(numbers, np.array([7, 9, 9]), ["Ada", None, None], ["CC0-1.0", "CC BY 4.0", None])
    write_entries(tmp_path / ENTRIES_FILE, entries)
    write_landmarks(tmp_path, pa.table({"landmark_id": [7, 9], "name": ["Ä", "B"], "category": [None, "c"]}))
    save_rule(tmp_path, threshold=0.5)
    return tmp_path


def save_rule(folder: Path, threshold: float) -> None:
    nearest = KnnVoteParams(top=1, power=1, clip=False)
    rule = AnswerRule(neighbours=20, steps=(nearest,), threshold=threshold, calibration=None)
    write_json(folder / "answer.json", rule.model_dump())


def test_fewer_photos_than_neighbours(three: Path) -> None:
    out = Retriever(three, 4)(np.array([[0.8, 0.6, 0, 0], [0, 0, 1, 0]], dtype=np.float32))
    assert out["landmark_id"].tolist() == [[7], [9]]
    assert [name.decode() for name in out["landmark"].ravel()] == ["Ä", "B"]
    np.testing.assert_allclose(out["score"], [[0.8], [1.0]], atol=1e-6)
    assert [i.decode() for i in out["neighbours"][0]] == IDS + [""] * (SHOWN - 3)
    assert out["neighbour_landmark_ids"][0].tolist() == [7, 9, 9] + [-1] * (SHOWN - 3)
    np.testing.assert_allclose(out["neighbour_scores"][0], [0.8, 0.6, 0.0] + [-1] * (SHOWN - 3), atol=1e-6)
    assert [name.decode() for name in out["neighbour_landmarks"][0]] == ["Ä", "B", "B"] + [""] * (SHOWN - 3)
    assert out["neighbour_attributions"][0].tolist() == [b"Ada, CC0-1.0", b"CC BY 4.0"] + [b""] * (SHOWN - 2)
    assert out["index_version"].tolist() == [[4], [4]]


def test_a_score_at_the_threshold_is_an_answer_and_one_below_is_none(three: Path) -> None:
    out = Retriever(three, 4)(np.array([[0.5, 0, 0, 0.75**0.5], [0.49, 0, 0, 0.8717]], dtype=np.float32))
    assert out["landmark_id"].tolist() == [[7], [-1]]
    assert out["landmark"].ravel().tolist() == ["Ä".encode(), b""]
    assert np.isnan(out["probability"]).all()  # nothing was learnt of how sure to be
    np.testing.assert_allclose(out["score"], [[0.5], [0.49]], atol=1e-6)


def test_a_score_is_never_raised(three: Path) -> None:
    """0.8 less ten times the cosine, 1, with the distractor; and where nothing is found there is none."""
    query = np.array([[0.8, 0.6, 0, 0]], dtype=np.float32)
    steps = (KnnVoteParams(top=1, power=1, clip=False), DistractorPenaltyParams(kind="query_side", weight=10, top=1))
    write_json(
        three / "answer.json", AnswerRule(neighbours=20, steps=steps, threshold=0, calibration=None).model_dump()
    )
    numbers = np.array([as_number(i) for i in IDS])
    save_context(three / CONTEXT_FOLDER, steps, Context(distractors=query), numbers, np.eye(3, 4, dtype=np.float32))
    out = Retriever(three, 4)(np.vstack([query, np.full_like(query, np.nan)]))
    np.testing.assert_allclose(out["score"], [[-9.2], [-1]], atol=1e-5)


def test_an_index_that_finds_fewer_fills_up_with_empty_ones(three: Path) -> None:
    """Two lists, one probed: each query sees only one of the clusters."""
    vectors = np.repeat(np.eye(2, 4, dtype=np.float32), 40, axis=0)
    ids = sorted(image_id_of(str(i)) for i in range(80))
    index = made_index(vectors, np.array([as_number(i) for i in ids]), "IVF2,Flat")
    index.remove_ids(np.array([as_number(i) for i in ids[2:40]]))
    kept = ids[:2] + ids[40:]
    write_index(index, three / INDEX_FILE)
    numbers = np.array([as_number(i) for i in kept])
    write_entries(three / ENTRIES_FILE, entries_table(numbers, np.array([7] * 2 + [9] * 40)))
    out = Retriever(three, 4)(np.array([[1, 0, 0, 0], [0, 1, 0, 0]], dtype=np.float32))
    assert out["landmark_id"].tolist() == [[7], [9]]
    assert [bool(i) for i in out["neighbours"][0]] == [True] * 2 + [False] * (SHOWN - 2)
    assert out["neighbour_landmark_ids"][0].tolist() == [7] * 2 + [-1] * (SHOWN - 2)
    assert out["neighbour_scores"][0].tolist() == [1] * 2 + [-1] * (SHOWN - 2)
    assert all(out["neighbours"][1])


def test_no_more_than_shown(tiny: Tiny) -> None:
    vectors = embed_offline(tiny.repository / "embed" / "1" / "model.onnx", list(tiny.known.values()))
    out = Retriever(tiny.repository / "retrieve" / "1", 1)(vectors)
    assert RULE.neighbours > SHOWN
    assert {name: array.shape for name, array in out.items()} == {
        "landmark_id": (3, 1),
        "landmark": (3, 1),
        "score": (3, 1),
        "probability": (3, 1),
        "neighbours": (3, SHOWN),
        "neighbour_scores": (3, SHOWN),
        "neighbour_landmark_ids": (3, SHOWN),
        "neighbour_landmarks": (3, SHOWN),
        "neighbour_attributions": (3, SHOWN),
        "index_version": (3, 1),
    }
    assert out["landmark_id"].ravel().tolist() == list(NAMES)


@pytest.mark.parametrize("how", ["not finite", "said to be broken"])
def test_a_row_without_an_image_has_no_answer_and_touches_no_other(tiny: Tiny, how: str) -> None:
    good = embed_offline(tiny.repository / "embed" / "1" / "model.onnx", list(tiny.known.values()))
    retrieve = Retriever(tiny.repository / "retrieve" / "1", 1)
    wanted = retrieve(good)
    rows, errors = np.insert(good, 1, good[0], axis=0), np.full((4, 1), b"", dtype=np.object_)
    if how == "not finite":
        rows[1, 3] = np.nan
    else:
        errors[1] = b"empty file"
    out = retrieve(rows, errors)
    for name, values in wanted.items():
        np.testing.assert_array_equal(np.delete(out[name], 1, axis=0), values)
    empty = {name: values[1].tolist() for name, values in out.items()}
    assert np.isnan(empty.pop("probability")).all()
    assert empty == {
        "landmark_id": [-1],
        "landmark": [b""],
        "score": [-1],
        "neighbours": [b""] * SHOWN,
        "neighbour_scores": [-1] * SHOWN,
        "neighbour_landmark_ids": [-1] * SHOWN,
        "neighbour_landmarks": [b""] * SHOWN,
        "neighbour_attributions": [b""] * SHOWN,
        "index_version": [1],
    }


def test_nothing_but_rows_without_an_image(three: Path) -> None:
    out = Retriever(three, 1)(np.full((2, 4), np.nan, dtype=np.float32))
    assert out["landmark_id"].tolist() == [[-1], [-1]]


def test_the_ensemble_passes_everything_on(tiny: Tiny, tiny_server: str) -> None:
    """A broken photo between good ones: its reason, and the others' answers as if it had not been there."""
    photos = [tiny.known[3], b"no photo", tiny.unknown, tiny.known[8]]
    tensor = grpc.InferInput("photo", [4, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[photo] for photo in photos], dtype=np.object_))
    with grpc.InferenceServerClient(tiny_server) as client:
        got = client.infer("landmark", [tensor])
    assert got.as_numpy("landmark_id").ravel().tolist() == [3, -1, -1, 8]
    assert [bool(error) for error in got.as_numpy("error").ravel()] == [False, True, False, False]
    assert got.as_numpy("neighbours")[1].tolist() == [b""] * SHOWN
    assert got.as_numpy("neighbour_landmarks")[0, 0].decode() == NAMES[3]
    assert got.as_numpy("neighbour_attributions")[0, 0].decode() == "Zoë, CC0-1.0"
    assert got.as_numpy("neighbour_attributions")[3, 0].decode() == "CC0-1.0"
    assert got.as_numpy("index_version").tolist() == [[1]] * 4
    good = embed_offline(tiny.repository / "embed" / "1" / "model.onnx", [tiny.known[3], tiny.unknown, tiny.known[8]])
    wanted = Retriever(tiny.repository / "retrieve" / "1", 1)(good)
    for name, values in wanted.items():
        rows = np.delete(got.as_numpy(name), 1, axis=0)
        if values.dtype == np.object_:
            assert rows.tolist() == values.tolist()
        else:
            np.testing.assert_allclose(rows, values, atol=1e-5)


def test_retrieve_can_be_asked_alone(tiny: Tiny, tiny_server: str) -> None:
    """Of vectors that somebody has kept, without the input that the ensemble fills in."""
    vectors = embed_offline(tiny.repository / "embed" / "1" / "model.onnx", [tiny.known[5], tiny.known[3]])
    vectors[1, 0] = np.inf
    tensor = grpc.InferInput("embedding", list(vectors.shape), "FP32")
    tensor.set_data_from_numpy(vectors)
    with grpc.InferenceServerClient(tiny_server) as client:
        got = client.infer("retrieve", [tensor])
    assert got.as_numpy("landmark_id").ravel().tolist() == [5, -1]


def test_vectors_of_another_length(tiny: Tiny) -> None:
    retrieve = Retriever(tiny.repository / "retrieve" / "1", 1)
    with pytest.raises(ValueError, match=f"embeddings of 8 dimensions, the index holds {DIMENSIONS}; .* one export"):
        retrieve(np.ones((1, 8), dtype=np.float32))


def test_an_indexed_landmark_without_a_name(tiny: Tiny, tmp_path: Path) -> None:
    folder = tmp_path / "1"
    shutil.copytree(tiny.repository / "retrieve" / "1", folder)
    write_landmarks(folder, pa.table({"landmark_id": [3, 5], "name": ["a", "b"], "category": ["", ""]}))
    with pytest.raises(ValueError, match=r"landmarks \[8\] are in entries.arrow but not in landmarks.parquet"):
        Retriever(folder, 1)
