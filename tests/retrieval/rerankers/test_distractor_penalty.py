"""The three penalties worked out by hand, and again in plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from retrieval.rerankers.small_world import World

from cairn.manifest import NONE
from cairn.retrieval.neighbours import Neighbours
from cairn.retrieval.rerankers.base import Context, RerankError
from cairn.retrieval.rerankers.distractor_penalty import DistractorPenaltyParams, build
from cairn.retrieval.rerankers.knn_vote import KnnVoteParams
from cairn.retrieval.rerankers.knn_vote import build as build_vote
from cairn.retrieval.rerankers.similarity import VectorsById
from cairn.retrieval.result import Result, searched


def params(kind: str, **others: float) -> DistractorPenaltyParams:
    return DistractorPenaltyParams.model_validate({"kind": kind, **others})


def by_hand() -> tuple[Result, Context]:
    """One query along x; two photos at cosines .8 and .6, the nearer one right on a distractor."""
    query = np.array([[1, 0, 0]], dtype=np.float32)
    photos = np.array([[0.8, 0.6, 0], [0.6, 0, 0.8]], dtype=np.float32)
    found = Neighbours(np.array([[1, 2, 0]]), np.array([[5, 6, NONE]]), np.array([[0.8, 0.6, -np.inf]], np.float32))
    distractors = np.array([[0.8, 0.6, 0], [0, 1, 0]], dtype=np.float32)  # cosines to the query: .8 and 0
    return searched(query, found), Context(vectors=VectorsById(np.array([1, 2]), photos), distractors=distractors)


def test_top1_minus_mean_by_hand() -> None:
    result, context = by_hand()
    got = build(params("top1_minus_mean", top=2), context).process(result).decided
    assert got.landmark_ids.tolist() == [5]
    assert got.scores[0] == pytest.approx(0.8 - 0.4)


def test_index_side_by_hand() -> None:
    result, context = by_hand()
    got = build(params("index_side", top=1), context).process(result).neighbours
    # the first is a distractor's twin: .8 - 1; the second's nearest distractor is at .6 * .8
    assert got.landmark_ids.tolist() == [[6, 5, NONE]]
    np.testing.assert_allclose(got.scores, [[0.6 - 0.48, 0.8 - 1, -np.inf]], atol=1e-6)


def test_index_side_counts_no_cosine_below_0() -> None:
    result, context = by_hand()
    found = result.neighbours
    low = searched(result.queries, Neighbours(found.image_ids, found.landmark_ids, found.scores - 1))
    got = build(params("index_side", top=1), context).process(low).neighbours
    np.testing.assert_allclose(got.scores[0, :2], [-0.48, -1], atol=1e-6)


def test_query_side_by_hand() -> None:
    result, context = by_hand()
    step = build(params("query_side", top=1, weight=0.5), context)
    got = step.process(result.answered(np.array([6]), np.array([0.6])))
    assert got.decided.landmark_ids.tolist() == [6]
    assert got.decided.scores[0] == pytest.approx(0.6 - 0.5 * 0.8)
    with pytest.raises(ValueError, match="no answers yet"):
        step.process(result)


def test_index_side_in_plain_loops(world: World) -> None:
    got = build(params("index_side"), world.context).process(world.result).neighbours
    assert world.context.distractors is not None
    vector = dict(zip(world.ids.tolist(), world.vectors, strict=True))
    found = world.result.neighbours
    for row in range(len(world.result)):
        scored = {}
        for image, cosine in zip(found.image_ids[row].tolist(), found.scores[row].tolist(), strict=True):
            near = sorted((float(vector[image] @ nl) for nl in world.context.distractors), reverse=True)[:5]
            scored[image] = min(max(cosine, 0), 1) - sum(near) / 5
        assert dict(zip(got.image_ids[row].tolist(), got.scores[row].tolist(), strict=True)) == pytest.approx(
            scored, abs=1e-5
        )
        assert got.image_ids[row].tolist() == sorted(scored, key=lambda image: -scored[image])


def test_the_triplet_systems_rule_is_the_nearest_with_a_query_side_penalty(world: World) -> None:
    nearest = build_vote(KnnVoteParams(top=1, power=1, clip=False), Context()).process(world.result)
    two = build(params("query_side", top=5), world.context).process(nearest).decided
    one = build(params("top1_minus_mean"), world.context).process(world.result).decided
    assert one.landmark_ids.tolist() == two.landmark_ids.tolist()
    np.testing.assert_allclose(one.scores, two.scores, atol=1e-6)


def test_published_numbers_of_distractors_unless_told(world: World) -> None:
    answered = world.result.answered(world.result.neighbours.landmark_ids[:, 0], np.zeros(len(world.result)))

    def scores(kind: str, **top: float) -> list[float]:
        given = answered if kind == "query_side" else world.result
        got = build(params(kind, **top), world.context).process(given)
        return (got.neighbours if kind == "index_side" else got.decided).scores.ravel().tolist()

    for kind, top in (("top1_minus_mean", 5), ("index_side", 5), ("query_side", 10)):
        assert scores(kind) == scores(kind, top=top) != scores(kind, top=top + 1)


def test_index_side_keeps_the_order_that_an_earlier_step_made() -> None:
    """Local features give inliers a score over 1."""
    result, context = by_hand()
    far = Context(vectors=context.vectors, distractors=np.array([[0, 0, -1]], dtype=np.float32))
    sorted_before = result.rescored(np.array([[1.02, 1.5, 0]]))
    got = build(params("index_side", weight=0), far).process(sorted_before).neighbours
    assert got.landmark_ids.tolist() == [[6, 5, NONE]]
    np.testing.assert_allclose(got.scores, [[1.5, 1.02, -np.inf]])


def test_without_weight_nothing_changes(world: World) -> None:
    got = build(params("index_side", weight=0), world.context).process(world.result).neighbours
    assert np.array_equal(got.scores, np.maximum(world.result.neighbours.scores, 0))


def test_what_is_missing_is_named(world: World) -> None:
    with pytest.raises(RerankError, match="query_side needs distractors of the train side"):
        build(params("query_side"), Context())
    with pytest.raises(RerankError, match="query_side needs distractors of the train side"):
        build(params("query_side"), Context(distractors=np.zeros((0, 3), np.float32)))
    with pytest.raises(RerankError, match="index_side needs vectors of index photos"):
        build(params("index_side"), Context(distractors=world.context.distractors))
