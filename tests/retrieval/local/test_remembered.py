"""Features that are asked for again are not made again, as far as the memory goes."""

from __future__ import annotations

import numpy as np

from cairn.retrieval.local.features import Features
from cairn.retrieval.local.remembered import remembered

PHOTO = 10 * (2 + 6) * 4  # bytes


def made(limit: int, asked: list[int]) -> list[int]:
    """The photos that features were made of, in order."""
    seen: list[int] = []

    def features(image_id: int) -> Features:
        seen.append(image_id)
        return Features(np.full((10, 2), image_id, np.float32), np.zeros((10, 6), np.float32))

    look_up = remembered(features, limit)
    for image_id in asked:
        assert look_up(image_id).points[0, 0] == image_id
    return seen


def test_the_latest_are_kept_within_the_limit() -> None:
    asked = [1, 2, 1, 3, 1, 2, 3]
    assert made(3 * PHOTO, asked) == [1, 2, 3]
    assert made(2 * PHOTO, asked) == [1, 2, 3, 2, 3]  # 2 had to go when 3 came, then 3 when 2 came again
    assert made(PHOTO - 1, [1, 1, 2, 2, 1]) == [1, 2, 1]  # the latest stays, even over the limit
