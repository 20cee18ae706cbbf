"""SIFT on rendered photos: repeatable, limited, unit descriptors; the size it works at."""

from __future__ import annotations

import numpy as np
import pytest
from retrieval.local.rendered import picture

from cairn.retrieval.local import EXTRACTORS
from cairn.retrieval.local.features import Features, strongest
from cairn.retrieval.local.pixels import reduced
from cairn.retrieval.local.sift import root


def test_features_are_as_promised_and_the_same_each_time() -> None:
    image = picture(0)
    for extract in (EXTRACTORS["sift"](50, 0.0), EXTRACTORS["sift"](50, 0.0)):
        found = extract(image)
        assert found.points.shape == (50, 2)
        assert found.descriptors.shape == (50, 128)
        np.testing.assert_allclose(np.linalg.norm(found.descriptors, axis=1), 1, atol=1e-5)
        assert (found.points >= 0).all()
        assert (found.points <= np.array(image.shape[1::-1])).all()
    again = EXTRACTORS["sift"](50, 0.0)(image)
    assert np.array_equal(found.points, again.points)
    assert np.array_equal(found.descriptors, again.descriptors)


def test_an_empty_picture_has_none() -> None:
    found = EXTRACTORS["sift"](50, 0.0)(np.full((64, 64, 3), 128, dtype=np.uint8))
    assert len(found) == 0
    assert found.descriptors.shape == (0, 128)


def test_a_feature_is_over_the_strength_asked_for() -> None:
    every, strong = (EXTRACTORS["sift"](10**4, over)(picture(0)) for over in (0.0, 0.02))
    assert 0 < len(strong) < len(every)
    assert np.array_equal(strong.points, every.points[: len(strong)])  # both are in the order of strength


def test_the_strongest_first_then_by_place() -> None:
    points = np.array([[5, 1], [2, 9], [2, 3], [7, 7], [0, 0]], dtype=np.float32)
    strengths = np.array([0.5, 0.5, 0.5, 0.9, 0.1])
    assert strongest(strengths, points, 9, 0.1).tolist() == [3, 2, 1, 0]
    assert strongest(strengths, points, 2, 0.0).tolist() == [3, 2]


def test_roots_of_shares() -> None:
    got = root(np.array([[4, 0, 12], [0, 0, 0]], dtype=np.float32))
    np.testing.assert_allclose(got, [[0.5, 0, np.sqrt(0.75)], [0, 0, 0]], atol=1e-6)


def test_features_are_checked_when_made() -> None:
    with pytest.raises(ValueError, match="points"):
        Features(np.zeros((2, 2), np.float32), np.zeros((3, 8), np.float32))
    with pytest.raises(ValueError, match="float32"):
        Features(np.zeros((2, 2)), np.zeros((2, 8), np.float32))


def test_reduced_to_a_size_but_never_enlarged() -> None:
    wide = np.zeros((100, 400, 3), dtype=np.uint8)
    assert reduced(wide, 200).shape == (50, 200, 3)
    assert reduced(wide, 400) is wide
    assert reduced(np.zeros((1, 400, 3), dtype=np.uint8), 40).shape == (1, 40, 3)
    assert (reduced(np.full((90, 60, 3), 7, dtype=np.uint8), 30) == 7).all()
    with pytest.raises(ValueError, match="RGB uint8"):
        reduced(np.zeros((5, 5), dtype=np.uint8), 10)
