"""Principal components: variances along them fall, distances along what is kept stay."""

from __future__ import annotations

import numpy as np
import pytest

from cairn.networks.keypoints.projection import fit_projection


def test_components_of_known_axes() -> None:
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    spread = np.array([5, 0.1, 3, 0.1, 0.1, 0.1])
    vectors = (rng.normal(size=(4000, 6)) * spread @ axes.T + 7).astype(np.float32)
    shorter = fit_projection(vectors, 2)
    assert np.abs(shorter.components.T @ axes[:, [0, 2]]) == pytest.approx(np.eye(2), abs=0.05)
    np.testing.assert_allclose(shorter.mean, vectors.mean(axis=0), rtol=1e-4)
    found = shorter(vectors)
    assert (found.dtype, found.shape) == (np.float32, (4000, 2))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    wanted = ((vectors - 7) @ axes[:, [0, 2]]).astype(np.float64)
    cosines = (found @ found[0]) - (wanted @ wanted[0]) / np.linalg.norm(wanted, axis=1) / np.linalg.norm(wanted[0])
    assert np.abs(cosines).mean() < 0.02


def test_all_components_keep_all_distances() -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 5)).astype(np.float32)
    shorter = fit_projection(vectors, 5)
    np.testing.assert_allclose(shorter.components.T @ shorter.components, np.eye(5), atol=1e-5)
    turned = (vectors - shorter.mean) @ shorter.components
    np.testing.assert_allclose(
        np.linalg.norm(turned[:-1] - turned[1:], axis=1), np.linalg.norm(vectors[:-1] - vectors[1:], axis=1), rtol=1e-4
    )
    assert (np.diff(turned.var(axis=0)) < 0).all()


@pytest.mark.parametrize("shape", [(50, 3), (4, 8), (0, 8)])
def test_too_few_to_fit(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"local_features\.dimensions = 4 needs more than 4"):
        fit_projection(np.zeros(shape, np.float32), 4)
