"""All charts: the same bytes whatever the surroundings, no metadata, known pixels, and what empty input gives."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from cairn.metrics import coverage
from cairn.pictures import style
from cairn.pictures.class_sizes import class_sizes
from cairn.pictures.loss_curves import loss_curves
from cairn.pictures.precision_coverage import precision_coverage
from cairn.pictures.score_histograms import score_histograms

Draw = Callable[[Path], None]
ShareOf = Callable[[Path, str], float]
Where = Callable[[Path, str], np.ndarray]

SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
FLAGS = np.array([True, True, False, True, False])
CURVE = coverage.precision_coverage(SCORES, FLAGS, 5)
EPOCHS = [{"train_loss": 5.0 - i, "validation_gap": 0.2 * i, "validation_accuracy": 0.25 * i} for i in range(4)]

FULL: dict[str, Draw] = {
    "class_sizes": lambda path: class_sizes([1, 1, 2, 5, 9, 40], path, "Sizes"),
    "loss_curves": lambda path: loss_curves(EPOCHS, path),
    "precision_coverage": lambda path: precision_coverage(CURVE, path, "Precision", threshold=0.6, target=0.75),
    "score_histograms": lambda path: score_histograms([0.9, 0.8], [0.4], [0.1, 0.2], path, threshold=0.5),
}
EMPTY: dict[str, Draw] = {
    "class_sizes": lambda path: class_sizes(np.array([], dtype=int), path, "Sizes"),
    "loss_curves": lambda path: loss_curves([], path),
    "precision_coverage": lambda path: precision_coverage(
        coverage.precision_coverage([], [], 5), path, "Precision", 0.6, 0.75
    ),
    "score_histograms": lambda path: score_histograms([], [], [-math.inf], path, threshold=0.5),
}


@pytest.mark.parametrize("draw", [*FULL.values(), *EMPTY.values()], ids=[*FULL, *(f"empty {n}" for n in EMPTY)])
def test_the_same_bytes_whatever_matplotlib_was_set_to(draw: Draw, tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "savefig.dpi": 7}):
        draw(tmp_path / "b.png")
        assert matplotlib.rcParams["font.size"] == 30
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("draw", [*FULL.values(), *EMPTY.values()], ids=[*FULL, *(f"empty {n}" for n in EMPTY)])
def test_a_png_without_text_metadata_and_nothing_left_beside_it(draw: Draw, tmp_path: Path) -> None:
    draw(tmp_path / "made" / "a.png")
    with Image.open(tmp_path / "made" / "a.png") as image:
        assert set(image.info) == {"dpi"}
        assert image.width >= 900
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["a.png"]


@pytest.mark.parametrize("draw", EMPTY.values(), ids=EMPTY)
def test_nothing_to_draw_gives_a_sentence_on_white(draw: Draw, tmp_path: Path, share_of: ShareOf) -> None:
    draw(tmp_path / "a.png")
    assert 0.9 < share_of(tmp_path / "a.png", style.PAPER) < 0.999
    assert share_of(tmp_path / "a.png", style.QUIET) > 0
    assert share_of(tmp_path / "a.png", style.MAIN) == 0


def test_charts_leave_pyplot_alone() -> None:
    names = ("class_sizes", "loss_curves", "precision_coverage", "score_histograms", "contact_sheet")
    imports = "; ".join(f"import cairn.pictures.{name}" for name in names)
    code = f"import sys; {imports}; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_failed_drawing_leaves_the_old_picture(tmp_path: Path) -> None:
    FULL["class_sizes"](tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(RuntimeError), style.chart(tmp_path / "a.png"):
        raise RuntimeError
    assert (tmp_path / "a.png").read_bytes() == before


def test_bins_stand_in_proportion(tmp_path: Path, where: Where) -> None:
    """Eight landmarks of one photo, two of two or three: the bar heights, right of the middle, are 4 to 1."""
    class_sizes([1] * 8 + [2, 3], tmp_path / "a.png", "Sizes")
    heights = where(tmp_path / "a.png", style.MAIN)[:, 600:].sum(axis=0)
    tall, low = np.sort(np.unique(heights[heights > 20]))[[-1, 0]]
    assert tall / low == pytest.approx(4, rel=0.05)


def test_each_group_of_scores_has_its_colour(tmp_path: Path, where: Where) -> None:
    """Right ones at .9, wrong ones at .1, distractors between; the legend below is left out."""
    score_histograms([0.9] * 4, [0.1] * 2, [0.5] * 3, tmp_path / "a.png", threshold=math.inf)
    places = []
    for colour in (style.WRONG, style.MAIN, style.RIGHT):
        drawn = where(tmp_path / "a.png", colour)
        places.append(np.flatnonzero(drawn[: len(drawn) * 3 // 4].sum(axis=0) > 50).mean())  # the upright lines
    assert places == sorted(places)
    assert np.diff(places) == pytest.approx(np.diff(places).mean(), rel=0.05)


def test_a_loss_that_falls_is_drawn_falling(tmp_path: Path, where: Where) -> None:
    unscored = {"validation_gap": None, "validation_accuracy": None}
    loss_curves([{"train_loss": loss, **unscored} for loss in (8.0, 4.0, 2.0, 1.0)], tmp_path / "a.png")
    drawn = where(tmp_path / "a.png", style.SERIES[0])
    heights = [np.flatnonzero(column).mean() for column in drawn.T if column.any()]
    assert np.diff(heights).min() > -2  # pixels, from the top
    first, middle, last = (heights[len(heights) * part // 6] for part in (0, 2, 5))
    assert (middle - first) / (last - first) == pytest.approx(4 / 7, abs=0.15)


@pytest.mark.parametrize("sizes", [[0, 1], [1.5], [[1, 2]]])
def test_class_sizes_that_cannot_be(sizes: list[object], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="integers of at least 1"):
        class_sizes(sizes, tmp_path / "a.png", "Sizes")
    assert not list(tmp_path.iterdir())


def test_loss_curves_name_a_missing_column(tmp_path: Path) -> None:
    epochs = [{"train_loss": 1.0, "validation_accuracy": 0.5}]
    with pytest.raises(ValueError, match=r"no columns \['validation_gap'\].*'train_loss', 'validation_accuracy'"):
        loss_curves(epochs, tmp_path / "a.png")


def test_loss_curves_take_gaps_and_one_epoch(tmp_path: Path, share_of: ShareOf) -> None:
    unscored = {"train_loss": 2.0, "validation_gap": None, "validation_accuracy": math.nan}
    loss_curves([unscored], tmp_path / "a.png")
    loss_curves([unscored, {"train_loss": math.nan}, {"train_loss": 1.0}], tmp_path / "b.png")
    assert share_of(tmp_path / "a.png", style.MAIN) > 0
    assert share_of(tmp_path / "b.png", style.MAIN) > 0


def test_the_marked_threshold_is_drawn_only_where_something_is_answered(tmp_path: Path, share_of: ShareOf) -> None:
    precision_coverage(CURVE, tmp_path / "marked.png", "Precision", threshold=0.65, target=0.75)
    precision_coverage(CURVE, tmp_path / "all.png", "Precision", threshold=-1, target=0.75)
    precision_coverage(CURVE, tmp_path / "none.png", "Precision", threshold=math.inf, target=0.75)
    assert share_of(tmp_path / "marked.png", style.WRONG) > 0
    assert share_of(tmp_path / "all.png", style.WRONG) > 0
    assert share_of(tmp_path / "none.png", style.WRONG) == 0


def test_a_threshold_between_two_scores_marks_the_higher_one(tmp_path: Path) -> None:
    """At 0.6 and just below it the same queries are answered; only the text of the threshold could differ."""
    precision_coverage(CURVE, tmp_path / "a.png", "Precision", threshold=0.6, target=0.75)
    precision_coverage(CURVE, tmp_path / "b.png", "Precision", threshold=0.59999, target=0.75)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_score_histograms_refuse_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="without NaN"):
        score_histograms([math.nan], [], [], tmp_path / "a.png", threshold=0.5)


def test_score_histograms_take_one_score_and_draw_no_threshold_that_none_reaches(tmp_path: Path, where: Where) -> None:
    lines = []
    for threshold in (0.4, math.inf):
        score_histograms([0.5], [], [], tmp_path / "a.png", threshold=threshold)
        drawn = where(tmp_path / "a.png", style.INK)
        lines.append(bool(drawn.sum(axis=0).max() > len(drawn) // 2))
    assert lines == [True, False]
