"""Inliers move neighbours: the formulas on known counts, then real features on rendered photos."""

from __future__ import annotations

import numpy as np
import pytest
from retrieval.local.rendered import askew, picture

from cairn.retrieval.local.features import Features
from cairn.retrieval.neighbours import NONE, Neighbours
from cairn.retrieval.rerankers.base import Context, RerankError
from cairn.retrieval.rerankers.local_features import LocalFeatures, LocalFeaturesParams, build
from cairn.retrieval.result import Result, searched


def params(**others: object) -> LocalFeaturesParams:
    return LocalFeaturesParams.model_validate(others)


def result() -> Result:
    """Query 40 has photos 0, 1, 2 as neighbours; the best one is another landmark."""
    found = Neighbours(
        np.array([[1, 0, 2, 9]]), np.array([[11, 10, 12, NONE]]), np.array([[0.8, 0.7, 0.6, -np.inf]], np.float32)
    )
    return searched(np.eye(1, 4, dtype=np.float32), found, np.array([40]))


def shares(count: int) -> Features:
    """`count` features of a common picture, in general position; two photos share the fewer of theirs."""
    rng = np.random.default_rng(0)
    descriptors = rng.normal(size=(64, 32))
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    points = rng.uniform(0, 300, (64, 2))
    return Features(points[:count].astype(np.float32), descriptors[:count].astype(np.float32))


PHOTOS = {1: 0, 0: 49, 2: 16}  # features that each index photo shares with the query


def told(**others: object) -> LocalFeatures:
    return LocalFeatures(params(**others), lambda image: shares(PHOTOS[image]), lambda query: shares(query + 24))


def test_inliers_are_counted_for_the_first_neighbours_only() -> None:
    assert told().inliers(result()).tolist() == [[0, 49, 16, 0]]
    assert told(top=2).inliers(result()).tolist() == [[0, 49, 0, 0]]


def test_capped_by_hand() -> None:
    got = told(cap=20).process(result()).neighbours
    assert got.landmark_ids.tolist() == [[10, 12, 11, NONE]]
    np.testing.assert_allclose(got.scores, [[0.7 + 1, 0.6 + 16 / 20, 0.8, -np.inf]], rtol=1e-6)


def test_square_roots_by_hand() -> None:
    got = told(combine="sqrt").process(result()).neighbours
    assert got.landmark_ids.tolist() == [[10, 12, 11, NONE]]
    np.testing.assert_allclose(got.scores, [[7 * 0.7, 4 * 0.6, 0, -np.inf]], rtol=1e-6)


def test_those_behind_the_first_keep_their_order() -> None:
    got = told(combine="sqrt", top=1).process(result()).neighbours
    assert got.image_ids.tolist() == [[1, 0, 2, 9]]


def test_the_photo_seen_askew_comes_first() -> None:
    read: list[int] = []

    def photo(image: int) -> np.ndarray:
        read.append(image)
        return picture(image)

    context = Context(photo=photo, query_photo=lambda query: askew(picture(query - 40)))
    step = build(params(size=320, max_features=400), context)
    got = [step.process(result()) for _ in range(2)]
    assert got[0].neighbours.image_ids[0, 0] == 0
    assert got[0].neighbours.scores[0, 0] > 1.2
    assert np.array_equal(got[0].neighbours.scores, got[1].neighbours.scores)
    assert read == [1, 0, 2]  # each index photo is read once


def test_readers_are_needed() -> None:
    with pytest.raises(RerankError, match="local_features needs a reader of index photos"):
        build(params(), Context())
    with pytest.raises(RerankError, match="local_features needs a reader of query photos"):
        build(params(), Context(photo=picture))
