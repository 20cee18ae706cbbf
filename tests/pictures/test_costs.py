"""The benchmark's picture of costs: widths of its parts, the same bytes, empty input, input that cannot be drawn."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cairn.pictures.style import SERIES

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from costs import costs

CASES = {"1 client": {"embed": 10.0, "queue": 0.0}, "16 clients": {"embed": 10.0, "queue": 30.0}}


def test_bars_are_as_wide_as_their_parts_cost(tmp_path: Path, where: Callable[[Path, str], np.ndarray]) -> None:
    costs(CASES, tmp_path / "a.png", "Where time goes", "ms")
    embed, queue = (where(tmp_path / "a.png", colour) for colour in SERIES[:2])
    first, second = (rows.max() for rows in np.array_split(widths(embed[: len(embed) * 3 // 4]), 2))
    assert first > 50
    assert abs(first - second) <= 1
    assert widths(queue).max() == pytest.approx(3 * first, rel=0.02)


def widths(drawn: np.ndarray) -> np.ndarray:
    """From the first to the last pixel of each row: the number in the bar is of another colour."""
    lasts = drawn.shape[1] - drawn[:, ::-1].argmax(axis=1)
    return np.where(drawn.any(axis=1), lasts - drawn.argmax(axis=1), 0)


def test_the_same_costs_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        costs(CASES, tmp_path / f"{name}.png", "Where time goes", "ms")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("cases", [{}, {"none": {}}, {"nothing": {"embed": 0.0}}])
def test_nothing_to_draw_is_still_a_picture(
    tmp_path: Path, cases: dict[str, dict[str, float]], share_of: Callable[[Path, str], float]
) -> None:
    costs(cases, tmp_path / "a.png", "Where time goes", "ms")
    assert share_of(tmp_path / "a.png", "#FFFFFF") > 0.8


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ({"embed": 1.0}, r"a\.png: second has the parts \['embed'\]; wanted \['embed', 'queue'\]"),
        ({"queue": 1.0, "embed": 1.0}, "wanted"),
        ({"embed": -0.5, "queue": 1.0}, r"second has a part that costs less than nothing: .*-0\.5"),
        ({"embed": float("nan"), "queue": 1.0}, "nan"),
    ],
)
def test_costs_that_cannot_be_drawn_are_named(tmp_path: Path, case: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        costs({"first": {"embed": 1.0, "queue": 2.0}, "second": case}, tmp_path / "a.png", "Where time goes", "ms")
    assert not (tmp_path / "a.png").exists()
