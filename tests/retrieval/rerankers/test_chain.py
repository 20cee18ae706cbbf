"""Steps in order: which orders are refused, what holds of every step, and a chain with a learner in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from retrieval.rerankers.small_world import World, make_world

from cairn.retrieval.rerankers import RERANKERS, Step
from cairn.retrieval.rerankers.base import Context, RerankError
from cairn.retrieval.rerankers.boosted import out_of_fold
from cairn.retrieval.rerankers.chain import build_chain, check_order, fit_chain
from cairn.retrieval.result import Result

STEPS: TypeAdapter[list[Any]] = TypeAdapter(list[Step])
INDEX_SIDE = {"name": "distractor_penalty", "kind": "index_side"}
QUERY_SIDE = {"name": "distractor_penalty", "kind": "query_side"}
TRIPLET = {"name": "distractor_penalty", "kind": "top1_minus_mean"}
SUPERGLOBAL = {"name": "superglobal", "top": 10}
VOTE = {"name": "knn_vote", "head_power": 12}
SUM = {"name": "knn_vote", "top": 3, "power": 1, "clip": False}
BOOSTED = {"name": "boosted", "rounds": 10, "min_leaf": 3, "folds": 3}

CHAINS = [[], [TRIPLET], [VOTE], [INDEX_SIDE, SUM, QUERY_SIDE], [SUPERGLOBAL, INDEX_SIDE, BOOSTED, QUERY_SIDE]]


def steps(*blocks: dict[str, Any]) -> list[Any]:
    return STEPS.validate_python(list(blocks))


def ready(world: World, blocks: list[dict[str, Any]]) -> Context:
    return fit_chain(steps(*blocks), world.context, world.result, world.true, 0, 1)[0]


def same(one: Result, other: Result) -> None:
    assert np.array_equal(one.neighbours.image_ids, other.neighbours.image_ids)
    np.testing.assert_allclose(one.neighbours.scores, other.neighbours.scores, atol=1e-5)
    assert (one.answers is None) == (other.answers is None)
    if one.answers is not None and other.answers is not None:
        assert np.array_equal(one.answers.landmark_ids, other.answers.landmark_ids)
        np.testing.assert_allclose(one.answers.scores, other.answers.scores, atol=1e-5)


def test_a_chain_of_nothing_leaves_the_result_as_it_is(world: World) -> None:
    assert build_chain([], Context()).process(world.result) is world.result


def test_blocks_of_params_become_steps_by_name() -> None:
    assert {type(step).model_fields["name"].default for step in steps(INDEX_SIDE, SUPERGLOBAL, VOTE, BOOSTED)} <= set(
        RERANKERS
    )
    for wrong in ({"name": "unheard_of"}, VOTE | {"typo": 1}, SUPERGLOBAL | {"top": 0}, {"name": "distractor_penalty"}):
        with pytest.raises(ValidationError):
            steps(wrong)


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        ([QUERY_SIDE], "a step that answers must come before"),
        ([SUPERGLOBAL, QUERY_SIDE, VOTE], "a step that answers must come before"),
        ([VOTE, SUPERGLOBAL], "superglobal comes after a step that has answered"),
        ([TRIPLET, VOTE], "knn_vote comes after a step that has answered"),
    ],
)
def test_orders_that_cannot_be(world: World, blocks: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(RerankError, match=said):
        check_order(steps(*blocks))
    with pytest.raises(RerankError, match=said):
        build_chain(steps(*blocks), world.context)


def test_steps_follow_one_another(world: World) -> None:
    got = build_chain(steps(INDEX_SIDE, SUM, QUERY_SIDE), world.context).process(world.result)
    step_by_step = world.result
    for block in (INDEX_SIDE, SUM, QUERY_SIDE):
        [step] = steps(block)
        step_by_step = RERANKERS[step.name](step, world.context).process(step_by_step)
    same(got, step_by_step)


@settings(max_examples=10)
@given(st.integers(0, 50), st.sampled_from(CHAINS), st.data())
def test_queries_in_another_order_or_fewer_get_the_same(
    seed: int, blocks: list[dict[str, Any]], data: st.DataObject
) -> None:
    world = make_world(seed)
    chain = build_chain(steps(*blocks), ready(world, blocks))
    chosen = np.array(data.draw(st.lists(st.integers(0, len(world.result) - 1), min_size=1, unique=True)))
    same(chain.process(world.result).only(chosen), chain.process(world.result.only(chosen)))


@pytest.mark.parametrize("blocks", CHAINS)
def test_the_result_handed_in_is_left_alone(world: World, blocks: list[dict[str, Any]]) -> None:
    found = world.result.neighbours
    before = [part.copy() for part in (found.image_ids, found.landmark_ids, found.scores, world.result.queries)]
    build_chain(steps(*blocks), ready(world, blocks)).process(world.result)
    for part, kept in zip(
        (found.image_ids, found.landmark_ids, found.scores, world.result.queries), before, strict=True
    ):
        assert np.array_equal(part, kept)


@pytest.mark.parametrize("blocks", CHAINS)
def test_neighbours_are_sorted_never_lost(world: World, blocks: list[dict[str, Any]]) -> None:
    got = build_chain(steps(*blocks), ready(world, blocks)).process(world.result).neighbours
    assert np.array_equal(np.sort(got.image_ids), np.sort(world.result.neighbours.image_ids))


def test_a_chain_that_learns_nothing_needs_no_fitting(world: World) -> None:
    context, validation = fit_chain(steps(VOTE), world.context, world.result, world.true, 0, 1)
    assert context is world.context
    same(validation, build_chain(steps(VOTE), context).process(world.result))


def test_a_learner_is_fitted_behind_the_steps_before_it(world: World) -> None:
    context, validation = fit_chain(
        steps(INDEX_SIDE, BOOSTED, QUERY_SIDE), world.context, world.result, world.true, 5, 1
    )
    before = build_chain(steps(INDEX_SIDE), world.context).process(world.result)
    alone, judged = fit_chain(steps(BOOSTED), world.context, before, world.true, 5, 1)
    assert context.boosted_model == alone.boosted_model
    assert np.array_equal(validation.decided.landmark_ids, judged.decided.landmark_ids)
    assert (validation.decided.scores != judged.decided.scores).all()  # the last step was taken too
    [learner] = steps(BOOSTED)
    unseen = out_of_fold(before, world.true, learner, world.context, 5, 1)
    assert np.array_equal(judged.decided.scores, unseen.decided.scores)


def test_the_test_sides_labels_and_company_do_not_matter() -> None:
    """Nothing of another query, and no test-side distractor, can reach an answer: steps hold only their context."""
    world = make_world(3)
    chain = build_chain(steps(INDEX_SIDE, VOTE, QUERY_SIDE), world.context)
    alone = [chain.process(world.result.only(np.array([row]))).decided for row in range(len(world.result))]
    together = chain.process(world.result).decided
    assert [int(one.landmark_ids[0]) for one in alone] == together.landmark_ids.tolist()
    np.testing.assert_allclose([one.scores[0] for one in alone], together.scores, atol=1e-5)
