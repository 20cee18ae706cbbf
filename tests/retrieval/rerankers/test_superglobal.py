"""SuperGlobal by hand, and again in plain loops straight from the formulas."""

from __future__ import annotations

import numpy as np
import pytest
from retrieval.rerankers.small_world import World, make_world

from cairn.manifest import NONE
from cairn.retrieval.neighbours import Neighbours
from cairn.retrieval.rerankers.base import Context, RerankError
from cairn.retrieval.rerankers.similarity import VectorsById
from cairn.retrieval.rerankers.superglobal import SuperGlobalParams, build, refine
from cairn.retrieval.result import searched


def test_refined_by_hand() -> None:
    photos = np.array([[1, 0], [0.6, 0.8], [-1, 0]], dtype=np.float32)
    weight = 0.5 * 0.6
    middle = (photos[0] + weight * photos[1]) / (1 + weight)
    np.testing.assert_allclose(refine(photos, 1, 0.5)[0], middle, atol=1e-6)
    np.testing.assert_allclose(refine(photos, 9, 0.5)[0], middle, atol=1e-6)  # the third is opposite: it counts as 0
    assert np.array_equal(refine(photos[:1], 9, 0.5), photos[:1])


def slowly(query: np.ndarray, photos: np.ndarray, params: SuperGlobalParams) -> np.ndarray:
    refined = []
    for i, x0 in enumerate(photos):
        others = sorted((k for k in range(len(photos)) if k != i), key=lambda k: -float(x0 @ photos[k]))
        top, bottom = x0.astype(np.float64), 1.0
        for k in others[: params.neighbours]:
            weight = params.beta * max(0.0, float(x0 @ photos[k]))
            top, bottom = top + weight * photos[k], bottom + weight
        refined.append(top / bottom)
    first = [float(query @ x) for x in refined]
    ranked = sorted(range(len(photos)), key=lambda k: -first[k])
    if params.query == "max":
        expanded = np.max([refined[k] for k in ranked[: params.neighbours + 1]], axis=0)
    else:
        top, bottom = query.astype(np.float64), 1.0
        for k in ranked[: params.neighbours]:
            top, bottom = top + params.beta * max(0.0, first[k]) * refined[k], bottom + params.beta * max(0.0, first[k])
        expanded = top / bottom
    return np.array([(s + expanded @ x) / 2 for s, x in zip(first, refined, strict=True)])


@pytest.mark.parametrize("kind", ["mean", "max"])
def test_in_plain_loops(world: World, kind: str) -> None:
    params = SuperGlobalParams.model_validate({"top": 12, "neighbours": 4, "beta": 0.4, "query": kind})
    got = build(params, world.context).process(world.result).neighbours
    vector = dict(zip(world.ids.tolist(), world.vectors, strict=True))
    found = world.result.neighbours
    for row, query in enumerate(world.result.queries):
        ids = found.image_ids[row, :12]
        slow = slowly(query, np.array([vector[i] for i in ids.tolist()]), params)
        order = np.argsort(-slow, kind="stable")
        np.testing.assert_allclose(got.scores[row, :12], slow[order], atol=1e-5)
        assert got.image_ids[row, :12].tolist() == ids[order].tolist()
        assert got.image_ids[row, 12:].tolist() == found.image_ids[row, 12:].tolist()
        assert (got.scores[row, 12:] <= got.scores[row, 11]).all()


def test_without_weight_the_order_stays(world: World) -> None:
    got = build(SuperGlobalParams(beta=0), world.context).process(world.result).neighbours
    assert np.array_equal(got.image_ids, world.result.neighbours.image_ids)
    np.testing.assert_allclose(got.scores, world.result.neighbours.scores, atol=1e-6)


def test_a_scattered_world_is_ranked_better() -> None:
    before = after = 0.0
    for seed in range(5):
        world = make_world(seed, spread=0.45)
        got = build(SuperGlobalParams(), world.context).process(world.result)
        shown = world.true != NONE
        for result, many in ((world.result, False), (got, True)):
            hits = (result.neighbours.landmark_ids[:, :6] == world.true[:, None])[shown].mean()
            before, after = (before, after + hits) if many else (before + hits, after)
    assert after > before


def test_gaps_stay_gaps() -> None:
    found = Neighbours(np.array([[3, 0], [0, 0]]), np.array([[1, NONE], [NONE, NONE]]), np.full((2, 2), -np.inf, "f4"))
    found.scores[0, 0] = 0.6
    photo = np.array([[0.6, 0.8]], dtype=np.float32)
    context = Context(vectors=VectorsById(np.array([3]), photo))
    got = build(SuperGlobalParams(), context).process(searched(np.eye(2, dtype=np.float32)[[0, 0]], found)).neighbours
    assert got.landmark_ids.tolist() == [[1, NONE], [NONE, NONE]]
    weight = 0.15 * 0.6
    assert got.scores[0, 0] == pytest.approx((0.6 + (0.6 + weight) / (1 + weight)) / 2)


def test_it_needs_vectors() -> None:
    with pytest.raises(RerankError, match="superglobal needs vectors of index photos"):
        build(SuperGlobalParams(), Context())
