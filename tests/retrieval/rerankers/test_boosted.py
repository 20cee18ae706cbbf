"""The learned re-ranker: its features by hand and in plain loops, the same text each time, and nobody judged by a
model that has seen him."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from retrieval.rerankers.small_world import World, make_world

from cairn.manifest import NONE
from cairn.retrieval.neighbours import Neighbours
from cairn.retrieval.rerankers import boosted
from cairn.retrieval.rerankers.base import Context, RerankError
from cairn.retrieval.rerankers.boosted import (
    FEATURES,
    RISES,
    BoostedParams,
    build,
    candidates,
    fit,
    folds_of,
    load,
    out_of_fold,
)
from cairn.retrieval.result import searched

PARAMS = BoostedParams(rounds=20, leaves=4, min_leaf=3, learning_rate=0.2, folds=3)


def with_model(world: World, seed: int = 0) -> Context:
    model = fit(world.result, world.true, PARAMS, world.context, seed, 1)
    return Context(distractors=world.context.distractors, boosted_model=model)


def test_features_by_hand() -> None:
    found = Neighbours(
        np.arange(8).reshape(2, 4),
        np.array([[7, 5, 7, NONE], [4, NONE, NONE, NONE]]),
        np.array([[0.8, 0.7, 0.5, -np.inf], [0.6, -np.inf, -np.inf, -np.inf]], np.float32),
    )
    distractors = np.array([[0.6, 0.8], [0, 1]], dtype=np.float32)
    got = candidates(searched(np.eye(2, dtype=np.float32), found), BoostedParams(distractors=1), distractors)
    assert got.queries.tolist() == [0, 0, 1]
    assert got.landmark_ids.tolist() == [7, 5, 4]
    hand = [[1.3, 0.8, 0, 2, 0.6, 0.6], [0.7, 0.7, 1, 1, 0.6, -0.6], [0.6, 0.6, 0, 1, 1.0, 0.6]]
    np.testing.assert_allclose(got.features, hand, atol=1e-6)


@settings(max_examples=10)
@given(st.integers(0, 100), st.integers(1, 20))
def test_features_in_plain_loops(seed: int, top: int) -> None:
    world = make_world(seed, queries=6, spread=1.0)
    assert world.context.distractors is not None
    got = candidates(world.result, BoostedParams(top=top), world.context.distractors)
    rows = []
    for query in range(6):
        hits: dict[int, list[tuple[int, float]]] = {}
        for place, landmark in enumerate(world.result.neighbours.landmark_ids[query, :top].tolist()):
            hits.setdefault(landmark, []).append((place, float(world.result.neighbours.scores[query, place])))
        near = sorted((float(world.result.queries[query] @ nl) for nl in world.context.distractors), reverse=True)[:10]
        sums = {landmark: sum(s for _, s in found) for landmark, found in hits.items()}
        for landmark, found in hits.items():
            rival = max((s for other, s in sums.items() if other != landmark), default=0)
            features = (sums[landmark], found[0][1], found[0][0], len(found), np.mean(near), sums[landmark] - rival)
            rows.append((query, landmark, *features))
    both = np.column_stack([got.queries, got.landmark_ids, got.features])
    np.testing.assert_allclose(both, rows, atol=1e-5)


def test_blocks_make_no_difference(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert world.context.distractors is not None
    whole = candidates(world.result, PARAMS, world.context.distractors)
    monkeypatch.setattr(boosted, "QUERIES", 7)
    for one, other in zip(whole, candidates(world.result, PARAMS, world.context.distractors), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_each_query_gets_its_likeliest_candidate(world: World) -> None:
    context = with_model(world)
    got = build(PARAMS, context).process(world.result).decided
    assert world.context.distractors is not None
    assert context.boosted_model is not None
    found = candidates(world.result, PARAMS, world.context.distractors)
    chances = load(context.boosted_model)(found.features)
    for query in range(len(world.result)):
        own = np.flatnonzero(found.queries == query)
        best = own[chances[own].argmax()]
        assert got.landmark_ids[query] == found.landmark_ids[best]
        assert got.scores[query] == np.float32(chances[best])


def test_right_answers_of_another_world_score_higher_than_wrong_ones() -> None:
    first = make_world(1, queries=200, spread=0.3)
    world = make_world(2, queries=200, spread=0.3)
    context = Context(
        distractors=world.context.distractors, boosted_model=fit(first.result, first.true, PARAMS, first.context, 0, 1)
    )
    got = build(PARAMS, context).process(world.result).decided
    right = got.landmark_ids == world.true
    assert got.scores[right].mean() > got.scores[~right].mean() + 0.2


def test_few_candidates_are_still_told_apart() -> None:
    """Ten queries are too few candidates for leaves of 1000, of which no tree could have two."""
    first, world = make_world(1, queries=10, spread=0.3), make_world(2, queries=40, spread=0.3)
    wide = PARAMS.model_copy(update={"min_leaf": 1000})
    trees = load(fit(first.result, first.true, wide, first.context, 0, 1))
    assert world.context.distractors is not None
    found = candidates(world.result, wide, world.context.distractors)
    right = found.landmark_ids == world.true[found.queries]
    chances = trees(found.features)
    assert chances[right].mean() > chances[~right].mean() + 0.1


def test_the_same_text_each_time_and_from_each_number_of_threads(world: World) -> None:
    texts = [fit(world.result, world.true, PARAMS, world.context, 3, threads) for threads in (1, 1, 2)]
    assert texts[0] == texts[1]
    assert texts[0].replace("[num_threads: 1]", "[num_threads: 2]") == texts[2]


@pytest.mark.parametrize("feature", [name for name, rises in RISES.items() if rises])
def test_a_stronger_candidate_is_never_less_likely(world: World, feature: str) -> None:
    assert world.context.distractors is not None
    plain = candidates(world.result, PARAMS, world.context.distractors).features
    raised = plain.copy()
    raised[:, FEATURES.index(feature)] += RISES[feature] * np.random.default_rng(0).uniform(0, 2, len(plain))
    trees = load(fit(world.result, world.true, PARAMS, world.context, 0, 1))
    assert (trees(raised) >= trees(plain)).all()


def test_nobody_is_judged_by_a_model_that_saw_his_landmark(world: World) -> None:
    got = out_of_fold(world.result, world.true, PARAMS, world.context, 0, 1)
    folds = folds_of(world.true, 3)
    for fold in range(3):
        others = folds != fold
        model = fit(world.result.only(others), world.true[others], PARAMS, world.context, 0, 1)
        context = Context(distractors=world.context.distractors, boosted_model=model)
        own = build(PARAMS, context).process(world.result.only(~others)).decided
        assert np.array_equal(got.decided.landmark_ids[~others], own.landmark_ids)
        np.testing.assert_allclose(got.decided.scores[~others], own.scores, atol=1e-6)


@given(st.lists(st.integers(NONE, 9), max_size=40), st.integers(2, 6))
def test_a_landmark_has_one_fold_and_distractors_are_shared_out(true: list[int], count: int) -> None:
    shown, folds = np.array(true, dtype=np.int64), folds_of(np.array(true, dtype=np.int64), count)
    assert all(len(set(folds[shown == landmark])) == 1 for landmark in set(true) - {NONE})
    sizes = np.bincount(folds[shown == NONE], minlength=count)
    assert sizes.max() - sizes.min() <= 1


def test_queries_without_neighbours_get_no_answer(world: World) -> None:
    found = Neighbours(np.zeros((1, 2), np.int64), np.full((1, 2), NONE), np.full((1, 2), -np.inf, np.float32))
    got = build(PARAMS, with_model(world)).process(searched(world.result.queries[:1], found)).decided
    assert (got.landmark_ids.tolist(), got.scores.tolist()) == ([NONE], [-np.inf])
    nobody = world.result.only(np.zeros(0, dtype=np.int64))
    assert len(build(PARAMS, with_model(world)).process(nobody).decided.scores) == 0


def test_refusals(world: World) -> None:
    with pytest.raises(RerankError, match="boosted needs a model"):
        build(PARAMS, world.context)
    with pytest.raises(RerankError, match="boosted needs distractors"):
        fit(world.result, world.true, PARAMS, Context(), 0, 1)
    with pytest.raises(RerankError, match="right and wrong candidates"):
        fit(world.result, np.full(len(world.result), NONE), PARAMS, world.context, 0, 1)
    with pytest.raises(RerankError, match="no LightGBM model"):
        load("something else")
    other = fit(world.result, world.true, PARAMS, world.context, 0, 1).replace(FEATURES[0], "total")
    with pytest.raises(RerankError, match="fit it again"):
        load(other)
