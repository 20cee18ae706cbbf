"""Inliers move neighbours: the formulas on known counts, then real features on rendered photos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from pydantic import ValidationError
from retrieval.local.rendered import askew, picture

from cairn.manifest import NONE
from cairn.retrieval.local import EXTRACTORS
from cairn.retrieval.local.features import Features
from cairn.retrieval.neighbours import Neighbours
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
    return LocalFeatures(params(**others), lambda number: shares(PHOTOS.get(number, 64)))


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


def test_what_fits_are_the_points_shared() -> None:
    fit = told().fit(40, 2)
    assert np.array_equal(fit.query, shares(16).points)
    assert np.array_equal(fit.photo, shares(16).points)


def test_how_is_matched_is_a_param() -> None:
    """Photo 0's descriptors turned by 0.5 from the query's: distance 0.5, and as far from others as before."""
    away = np.random.default_rng(1).normal(size=(64, 32))
    own = shares(64).descriptors
    away -= (away * own).sum(axis=1, keepdims=True) * own
    away *= np.sqrt(1 - (1 - 0.5**2 / 2) ** 2) / np.linalg.norm(away, axis=1, keepdims=True)
    turned = Features(shares(64).points, ((1 - 0.5**2 / 2) * own + away).astype(np.float32))
    counted = {}
    for most in (0.49, 0.51):
        how = params(mutual=False, ratio=None, max_distance=most, geometry="affine", pixels=20, trials=1000)
        step = LocalFeatures(how, lambda number: turned if number == 0 else shares(PHOTOS.get(number, 64)))
        counted[most] = step.inliers(result()).tolist()
    assert counted == {0.49: [[0, 0, 16, 0]], 0.51: [[0, 64, 16, 0]]}


def test_the_photo_seen_askew_comes_first_and_somebody_watches() -> None:
    how, told_of = params(size=320, max_features=400), []
    extract = EXTRACTORS["sift"](how.max_features, how.min_strength)

    def features(number: int) -> Features:
        return extract(askew(picture(0)) if number == 40 else picture(number))

    def watch(rows: Sequence[int], what: str) -> Iterator[int]:
        for row in rows:
            told_of.append((row, what))
            yield row

    step = build(how, Context(features={how: features}, watch=watch))
    got = [step.process(result()) for _ in range(2)]
    assert got[0].neighbours.image_ids[0, 0] == 0
    assert got[0].neighbours.scores[0, 0] > 1.2
    assert np.array_equal(got[0].neighbours.scores, got[1].neighbours.scores)
    assert told_of == [(0, "compare photos (sift)")] * 2


def test_features_of_this_very_step_are_needed() -> None:
    with pytest.raises(RerankError, match=r"local_features needs local features of photos \(sift\)"):
        build(params(), Context())
    with pytest.raises(RerankError, match="local_features needs"):
        build(params(), Context(features={params(size=100): shares}))


def test_aliked_names_the_param_that_it_lacks() -> None:
    with pytest.raises(ValidationError, match=r"weights: extractor aliked needs a \.safetensors file"):
        params(extractor="aliked")
    assert not params(extractor="aliked", weights="a.safetensors").served
