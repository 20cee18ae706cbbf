"""The classifier's answers by hand and in plain loops, its place in a chain, and what is served again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from retrieval.rerankers.small_world import World

from cairn.retrieval.context import open_context, save_context
from cairn.retrieval.neighbours import Neighbours
from cairn.retrieval.rerankers import classify
from cairn.retrieval.rerankers.base import Context, RerankError
from cairn.retrieval.rerankers.chain import build_chain, check_order
from cairn.retrieval.rerankers.classifier import LinearClassifier
from cairn.retrieval.rerankers.classify import ClassifyParams, build
from cairn.retrieval.rerankers.distractor_penalty import DistractorPenaltyParams
from cairn.retrieval.rerankers.knn_vote import KnnVoteParams
from cairn.retrieval.result import searched

HAND = LinearClassifier(
    np.array([3, 8]), np.array([[2, 0], [0, 1]], dtype=np.float32), np.array([0, 0.5], dtype=np.float32), 2.0
)


def test_by_hand_whatever_the_neighbours_are() -> None:
    found = Neighbours(np.zeros((2, 1), np.int64), np.full((2, 1), 5), np.ones((2, 1), np.float32))
    queries = np.array([[1, 0], [0, 1]], dtype=np.float32)
    got = build(ClassifyParams(), Context(classifier=HAND)).process(searched(queries, found)).decided
    assert got.landmark_ids.tolist() == [3, 8]  # logits (4, 0.5) and (0, 2.5)
    assert got.scores.tolist() == pytest.approx([1 / (1 + np.exp(-3.5)), 1 / (1 + np.exp(-2.5))], rel=1e-5)


def test_of_equally_likely_landmarks_the_lowest_id_wins() -> None:
    found = Neighbours(np.zeros((1, 1), np.int64), np.full((1, 1), 8), np.ones((1, 1), np.float32))
    undecided = LinearClassifier(HAND.landmark_ids, np.eye(2, dtype=np.float32), np.zeros(2, np.float32), 2.0)
    query = np.full((1, 2), np.sqrt(0.5), dtype=np.float32)
    got = build(ClassifyParams(), Context(classifier=undecided)).process(searched(query, found)).decided
    assert (got.landmark_ids.tolist(), got.scores.tolist()) == ([3], [0.5])


def test_in_plain_loops_and_in_blocks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    head = world.context.classifier
    assert head is not None
    monkeypatch.setattr(classify, "QUERIES", 7)
    result = build(ClassifyParams(), world.context).process(world.result)
    for row in range(len(result)):
        p = head(world.result.queries[row : row + 1])[0]
        assert result.decided.landmark_ids[row] == head.landmark_ids[p.argmax()]
        assert result.decided.scores[row] == pytest.approx(p.max(), rel=1e-5)
    assert np.array_equal(result.neighbours.image_ids, world.result.neighbours.image_ids)


def test_it_answers_once_and_scores_may_change_after_it() -> None:
    check_order([ClassifyParams(), DistractorPenaltyParams(kind="query_side")])
    with pytest.raises(RerankError, match="comes after a step that has answered"):
        check_order([ClassifyParams(), KnnVoteParams()])
    with pytest.raises(RerankError, match="classify needs a classifier"):
        build(ClassifyParams(), Context())


def test_a_linear_classifier_is_served_from_the_context(tmp_path: Path) -> None:
    steps = (ClassifyParams(),)
    save_context(tmp_path / "context", steps, Context(classifier=HAND), np.array([1]), np.eye(1, 2, dtype=np.float32))
    found = Neighbours(np.zeros((1, 1), np.int64), np.full((1, 1), 5), np.ones((1, 1), np.float32))
    result = searched(np.array([[0.6, 0.8]], dtype=np.float32), found)
    wanted = build_chain(steps, Context(classifier=HAND)).process(result).decided
    got = build_chain(steps, open_context(tmp_path / "context")).process(result).decided
    assert (got.landmark_ids[0], got.scores[0]) == (wanted.landmark_ids[0], wanted.scores[0])
