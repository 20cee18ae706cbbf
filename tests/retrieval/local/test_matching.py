"""Matches against plain loops, inliers of a known homography, and real features on rendered photos."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from retrieval.local.rendered import askew, picture

from cairn.retrieval.local import EXTRACTORS
from cairn.retrieval.local.features import Features
from cairn.retrieval.local.matching import count_inliers, mutual_matches


def features(seed: int, count: int) -> Features:
    descriptors = np.random.default_rng(seed).normal(size=(count, 4))
    descriptors /= np.maximum(np.linalg.norm(descriptors, axis=1, keepdims=True), 1e-9)
    return Features(np.zeros((count, 2), np.float32), descriptors.astype(np.float32))


def nearest(x: np.ndarray, others: np.ndarray, ratio: float) -> int | None:
    distances = [float(np.linalg.norm(x - y)) for y in others]
    order = sorted(range(len(others)), key=lambda k: distances[k])
    clear = len(order) < 2 or distances[order[0]] < ratio * distances[order[1]]
    return order[0] if clear else None


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 12), st.integers(0, 12), st.sampled_from([0.5, 0.8, 1.0]))
def test_matches_in_plain_loops_and_from_either_side(seed: int, many: int, others: int, ratio: float) -> None:
    a, b = features(seed, many), features(seed + 1, others)
    slow = []
    for i, x in enumerate(a.descriptors):
        j = nearest(x, b.descriptors, ratio) if others else None
        if j is not None and nearest(b.descriptors[j], a.descriptors, ratio) == i:
            slow.append([i, j])
    assert mutual_matches(a, b, ratio).tolist() == slow
    assert sorted(mutual_matches(b, a, ratio)[:, ::-1].tolist()) == slow


def test_what_looks_alike_twice_matches_nothing() -> None:
    twice = Features(np.zeros((2, 2), np.float32), np.eye(2, dtype=np.float32)[[0, 0]])
    once = Features(np.zeros((1, 2), np.float32), np.eye(2, dtype=np.float32)[:1])
    assert len(mutual_matches(once, twice, 0.9)) == 0
    assert mutual_matches(once, once, 0.9).tolist() == [[0, 0]]


def test_inliers_are_those_that_the_homography_was_made_for() -> None:
    rng = np.random.default_rng(0)
    a = rng.uniform(0, 500, (100, 2)).astype(np.float32)
    homography = np.array([[1.1, 0.1, 5], [-0.1, 0.9, 7], [1e-4, 0, 1]])
    b = cv2.perspectiveTransform(a[:, None], homography)[:, 0]
    b[60:] = rng.uniform(0, 500, (40, 2))
    near = np.linalg.norm(cv2.perspectiveTransform(a[:, None], homography)[:, 0] - b, axis=1) < 4
    assert count_inliers(a, b, 4, seed=1) == count_inliers(a, b, 4, seed=1) == near.sum()
    assert count_inliers(a[60:], b[60:], 4, seed=0) < 10


def test_no_homography_no_inliers() -> None:
    a = np.random.default_rng(0).uniform(0, 500, (50, 2)).astype(np.float32)
    assert count_inliers(a[:3], a[:3], 4, seed=0) == 0
    assert count_inliers(np.zeros_like(a), np.zeros_like(a), 4, seed=0) == 0
    assert count_inliers(a, a * np.array([-1, 1], np.float32), 4, seed=0) == 0  # a mirror image


@pytest.mark.parametrize("landmark", [0, 1, 2])
def test_a_photo_seen_askew_fits_and_another_does_not(landmark: int) -> None:
    extract = EXTRACTORS["sift"](500)

    def inliers(one: np.ndarray, other: np.ndarray) -> int:
        a, b = extract(one), extract(other)
        pairs = mutual_matches(a, b, 0.85)
        return count_inliers(a.points[pairs[:, 0]], b.points[pairs[:, 1]], 4, seed=0)

    assert inliers(picture(landmark), askew(picture(landmark))) > 25
    assert inliers(picture(landmark), picture(landmark + 1)) < 12
