"""Votes by hand, against today's answers, and with a classifier that does not know every landmark."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from retrieval.rerankers.small_world import World, make_world

from cairn.manifest import NONE
from cairn.retrieval.neighbours import Neighbours
from cairn.retrieval.rerankers import knn_vote
from cairn.retrieval.rerankers.base import Context, RerankError
from cairn.retrieval.rerankers.knn_vote import KnnVoteParams, build
from cairn.retrieval.rerankers.prototypes import Prototypes
from cairn.retrieval.result import Result, searched


def one(labels: list[int], scores: list[float]) -> Result:
    found = Neighbours(np.arange(len(labels))[None], np.array([labels]), np.array([scores], np.float32))
    return searched(np.eye(1, 3, dtype=np.float32), found)


class Head:
    """Knows landmarks 1 and 2, and is as sure of them as it is told."""

    landmark_ids = np.array([1, 2])

    def __init__(self, *probabilities: float) -> None:
        self.probabilities = np.array([probabilities], dtype=np.float32)

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        return np.repeat(self.probabilities, len(vectors), axis=0)


def test_two_outvote_the_nearest() -> None:
    got = build(KnnVoteParams(top=3, power=2), Context()).process(one([1, 2, 2, 1], [0.8, 0.7, 0.6, 0.5])).decided
    assert got.landmark_ids.tolist() == [2]
    assert got.scores[0] == pytest.approx(0.49 + 0.36)


@given(st.integers(0, 1000), st.integers(1, 20), st.sampled_from([1.0, 2.0, 8.0]))
def test_the_vote_is_a_sum_by_landmark(seed: int, top: int, power: float) -> None:
    result = make_world(seed, queries=8, spread=1.0).result
    got = build(KnnVoteParams(top=top, power=power), Context()).process(result).decided
    for row in range(len(result)):
        sums: dict[int, float] = {}
        found = result.neighbours
        for label, score in zip(found.landmark_ids[row, :top].tolist(), found.scores[row, :top].tolist(), strict=True):
            if label != NONE:
                sums[label] = sums.get(label, 0.0) + max(0.0, score) ** power
        assert got.scores[row] == pytest.approx(max(sums.values()), rel=1e-5, abs=1e-12)
        assert sums[int(got.landmark_ids[row])] == pytest.approx(max(sums.values()), rel=1e-5, abs=1e-12)


def test_top_1_is_the_nearest() -> None:
    for scores in ([0.8, 0.7], [-0.1, -0.2]):
        got = build(KnnVoteParams(top=1, power=1, clip=False), Context()).process(one([4, 5], scores)).decided
        assert (got.landmark_ids[0], got.scores[0]) == (4, np.float32(scores[0]))


def test_of_equal_landmarks_the_one_met_first_wins() -> None:
    got = build(KnnVoteParams(top=2), Context()).process(one([5, 4], [0.8, 0.8])).decided
    assert got.landmark_ids.tolist() == [5]


def test_a_sum_that_is_not_clipped_counts_against_a_landmark() -> None:
    result = one([1, 2, 1], [0.3, 0.25, -0.1])
    assert build(KnnVoteParams(top=3, power=1), Context()).process(result).decided.landmark_ids.tolist() == [1]
    got = build(KnnVoteParams(top=3, power=1, clip=False), Context()).process(result).decided
    assert got.landmark_ids.tolist() == [2]
    assert got.scores[0] == pytest.approx(0.25)


def test_a_gap_at_the_end_never_wins() -> None:
    result = one([3, NONE, NONE], [-0.5, -np.inf, -np.inf])
    got = build(KnnVoteParams(top=3, power=1, clip=False), Context()).process(result).decided
    assert got.landmark_ids.tolist() == [3]
    got = build(KnnVoteParams(), Context()).process(one([NONE], [-np.inf])).decided
    assert (got.landmark_ids.tolist(), got.scores.tolist()) == ([NONE], [-np.inf])


def test_the_classifier_turns_the_vote() -> None:
    params = KnnVoteParams(top=2, power=2, head_power=3)
    got = build(params, Context(classifier=Head(0.2, 0.6))).process(one([1, 2], [0.9, 0.8])).decided
    assert got.landmark_ids.tolist() == [2]
    assert got.scores[0] == pytest.approx((0.8**2 * 0.6**3) ** (1 / 4))


@pytest.mark.parametrize(("sure", "wins"), [(0.9, 1), (0.2, 7)])
def test_a_landmark_that_the_classifier_does_not_know_wins_only_where_it_is_unsure(sure: float, wins: int) -> None:
    params = KnnVoteParams(head_power=12, unknown_probability=0.5)
    got = build(params, Context(classifier=Head(sure, 0.05))).process(one([7, 1], [0.8, 0.8])).decided
    assert got.landmark_ids.tolist() == [wins]


def test_a_prototype_speaks_for_a_landmark_behind_the_first() -> None:
    """The query is the first axis; landmark 5 is only third, but its prototype is the query itself."""
    vectors = np.array([[0.6, 0.8, 0], [1, 0, 0]], dtype=np.float32)
    prototypes = Prototypes(np.array([4, 5]), vectors, np.array([0, 0]))
    result = one([4, 4, 5], [0.8, 0.7, 0.5])
    got = build(KnnVoteParams(top=2, power=2, prototype_weight=3), Context(prototypes=prototypes)).process(result)
    assert got.decided.landmark_ids.tolist() == [5]
    assert got.decided.scores[0] == pytest.approx(3 * 1.0**2)
    got = build(KnnVoteParams(top=2, power=2, prototype_weight=1), Context(prototypes=prototypes)).process(result)
    assert got.decided.landmark_ids.tolist() == [4]
    assert got.decided.scores[0] == pytest.approx(0.8**2 + 0.7**2 + 0.6**2)


def test_the_product_in_plain_loops(world: World) -> None:
    params = KnnVoteParams(top=7, power=8, head_power=12, unknown_probability=0.3)
    got = build(params, world.context).process(world.result).decided
    head = world.context.classifier
    assert head is not None
    place = {landmark: column for column, landmark in enumerate(head.landmark_ids.tolist())}
    products = []
    for row, found in enumerate(world.result.neighbours.landmark_ids[:, :7].tolist()):
        p = head(world.result.queries[row : row + 1])[0]
        sums: dict[int, float] = {}
        for landmark, cosine in zip(found, world.result.neighbours.scores[row].tolist(), strict=False):
            sums[landmark] = sums.get(landmark, 0) + max(cosine, 0) ** 8
        scored = {k: v * (float(p[place[k]]) if k in place else 0.3) ** 12 for k, v in sums.items()}
        assert got.landmark_ids[row] == max(scored, key=lambda k: scored[k])
        products.append(max(scored.values()))
    np.testing.assert_allclose(got.scores.astype(np.float64) ** 13, products, rtol=1e-4)
    assert np.array_equal(np.argsort(got.scores), np.argsort(products))


def test_blocks_make_no_difference(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    step = build(KnnVoteParams(head_power=12), world.context)
    whole = step.process(world.result).decided
    monkeypatch.setattr(knn_vote, "QUERIES", 7)
    parts = step.process(world.result).decided
    assert np.array_equal(whole.landmark_ids, parts.landmark_ids)
    np.testing.assert_allclose(whole.scores, parts.scores, rtol=1e-5)


def test_refusals() -> None:
    with pytest.raises(RerankError, match="head_power needs a classifier"):
        build(KnnVoteParams(head_power=1), Context())
    with pytest.raises(RerankError, match="prototype_weight needs prototypes"):
        build(KnnVoteParams(prototype_weight=1), Context())
    with pytest.raises(ValidationError, match="needs power 1"):
        KnnVoteParams(clip=False)
