"""The reliability diagram: the same bytes twice, points where they belong, bars in proportion, and no answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cairn.metrics.calibration import reliability
from cairn.pictures import style
from cairn.pictures.reliability import reliability_diagram

TABLE = reliability([0.05, 0.45, 0.55, 0.95, 0.95], [False, True, False, True, True])


def test_the_same_bytes_twice_and_no_metadata(tmp_path: Path) -> None:
    for name in ("a", "b"):
        reliability_diagram(TABLE, tmp_path / f"{name}.png", "Reliability")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert set(image.info) == {"dpi"}


def test_a_surer_bin_lies_further_right_and_a_righter_one_higher(
    tmp_path: Path, where: Callable[[Path, str], np.ndarray]
) -> None:
    """One bin a picture, so that the pixels above the bars (and below the legend) are its point."""
    middles = []
    for value, flags in ((0.25, [True, False, False, False]), (0.75, [True, True, True, False])):
        reliability_diagram(reliability([value] * 4, flags), tmp_path / "a.png", "Reliability")
        rows, columns = np.nonzero(where(tmp_path / "a.png", style.MAIN)[90:560])
        middles.append((rows.mean(), columns.mean()))
    assert middles[1][0] < middles[0][0] - 100
    assert middles[1][1] > middles[0][1] + 100


def test_bars_stand_in_proportion(tmp_path: Path, where: Callable[[Path, str], np.ndarray]) -> None:
    reliability_diagram(reliability([0.15] * 2 + [0.85] * 8, [True] * 10), tmp_path / "a.png", "Reliability")
    heights = where(tmp_path / "a.png", style.MAIN)[600:].sum(axis=0)
    tall, low = np.sort(np.unique(heights[heights > 8]))[[-1, 0]]
    assert tall / low == pytest.approx(4, rel=0.1)


def test_no_answers_give_a_sentence(tmp_path: Path, share_of: Callable[[Path, str], float]) -> None:
    reliability_diagram(reliability([], []), tmp_path / "a.png", "Reliability")
    assert 0.9 < share_of(tmp_path / "a.png", style.PAPER) < 0.999
    assert share_of(tmp_path / "a.png", style.MAIN) == 0
