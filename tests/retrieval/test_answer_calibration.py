"""Calibrations: a known curve found again, never falling, saved and read, sensible with little data, numpy 1 as 2."""

from __future__ import annotations

import json
import math
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from cairn.metrics.calibration import expected_calibration_error
from cairn.retrieval.calibration import (
    KINDS,
    Calibration,
    CalibrationError,
    Isotonic,
    Kind,
    Platt,
    better,
    fit,
)
from cairn.serving.server import default_server_env

few = settings(max_examples=40)
READ = TypeAdapter[Platt | Isotonic](Calibration)
kinds = pytest.mark.parametrize("kind", KINDS)
Rows = list[tuple[float, bool]]

rows_of_any_kind = st.lists(
    st.tuples(st.one_of(st.floats(-1, 1, width=32), st.sampled_from([0.0, 0.5, 0.9])), st.booleans()),
    min_size=1,
    max_size=40,
)
queries = st.lists(st.floats(allow_nan=False), min_size=2, max_size=30)


def true_probability(scores: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-(12 * scores - 6)))


def many(count: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    scores = random.uniform(0, 1, count)
    return scores, random.random(count) < true_probability(scores)


def fitted(kind: Kind, rows: Rows) -> Platt | Isotonic:
    return fit(kind, [score for score, _ in rows], np.array([flag for _, flag in rows], dtype=bool))


@kinds
def test_a_known_curve_is_found_again(kind: Kind) -> None:
    scores, right = many(40_000)
    found = fit(kind, scores, right)
    grid = np.linspace(0.02, 0.98, 50)
    assert np.abs(found.probability(grid) - true_probability(grid)).max() < (0.01 if kind == "platt" else 0.06)
    fresh = np.random.default_rng(1).uniform(0, 1, 20_000)
    seen = np.random.default_rng(2).random(20_000) < true_probability(fresh)
    assert expected_calibration_error(found.probability(fresh), seen) < 0.015


def test_platt_finds_the_slope_and_the_place() -> None:
    found = fit("platt", *many(40_000))
    assert isinstance(found, Platt)
    assert found.slope / found.deviation == pytest.approx(12, rel=0.04)
    assert found.probability(0.5) == pytest.approx(0.5, abs=0.03)


def test_platt_lies_at_the_bottom_of_its_loss() -> None:
    """Two right and one wrong, targets 3/4 and 1/3: no line near by has a lower loss."""
    scores, targets = np.array([0.2, 0.5, 0.9]), np.array([1 / 3, 3 / 4, 3 / 4])
    found = fit("platt", scores, [False, True, True])
    assert isinstance(found, Platt)

    def loss(slope: float, offset: float) -> float:
        p = 1 / (1 + np.exp(-(slope * (scores - found.mean) / found.deviation + offset)))
        return float(-(targets * np.log(p) + (1 - targets) * np.log(1 - p)).sum())

    least = loss(found.slope, found.offset)
    for step in (1e-3, 1e-2, 0.3):
        for slope, offset in ((step, 0), (-step, 0), (0, step), (0, -step)):
            assert loss(found.slope + slope, found.offset + offset) > least


def test_isotonic_by_hand() -> None:
    """Three right and three wrong, targets 4/5 and 1/5: steps 0.2 | 0.5 | 0.8, the middle one at its mean score 0.5."""
    found = fit("isotonic", [0.1, 0.2, 0.4, 0.6, 0.8, 0.9], [False, False, True, False, True, True])
    assert isinstance(found, Isotonic)
    assert found.scores == pytest.approx((0.2, 0.5, 0.8))
    assert found.probabilities == pytest.approx((0.2, 0.5, 0.8))
    assert found.probability([-1, 0.2, 0.35, 0.5, 0.65, 0.8, 2]) == pytest.approx([0.2, 0.2, 0.35, 0.5, 0.65, 0.8, 0.8])


@kinds
@few
@given(rows=rows_of_any_kind, scores=queries)
def test_probabilities_never_fall_and_lie_within_reason(kind: Kind, rows: Rows, scores: list[float]) -> None:
    """Strictly within (0, 1) at the scores fitted to, as no few answers make certain."""
    found = fitted(kind, rows)
    given_ = found.probability(np.sort(scores))
    assert given_.dtype == np.float64
    assert (np.diff(given_) >= -1e-12).all()
    assert ((given_ >= 0) & (given_ <= 1)).all()
    known = found.probability([score for score, _ in rows])
    assert ((known > 0) & (known < 1)).all()


@kinds
@few
@given(rows=rows_of_any_kind)
def test_the_mean_probability_is_the_mean_target(kind: Kind, rows: Rows) -> None:
    """Of Platt's fit exactly, by its offset; of the isotonic steps before they are joined, so within their reach."""
    found = fitted(kind, rows)
    right = sum(flag for _, flag in rows)
    wrong = len(rows) - right
    wanted = (right * (right + 1) / (right + 2) + wrong / (wrong + 2)) / len(rows)
    mean = found.probability([score for score, _ in rows]).mean()
    assert mean == pytest.approx(wanted, abs=1e-4 if kind == "platt" else 0.35)


@kinds
@few
@given(rows=rows_of_any_kind)
def test_saved_and_read_it_is_the_same_and_the_order_of_rows_plays_no_part(kind: Kind, rows: Rows) -> None:
    found = fitted(kind, rows)
    content = found.model_dump_json()
    assert READ.validate_json(content) == found
    assert json.loads(content)["kind"] == kind
    assert fitted(kind, rows[::-1]) == found


@kinds
@pytest.mark.parametrize("count", [1, 3, 500])
def test_all_right_or_all_wrong_is_told_by_how_many(kind: Kind, count: int) -> None:
    """Laplace's rule: (n + 1) / (n + 2) and 1 / (n + 2), whatever the score."""
    scores = np.linspace(0.2, 0.8, count)
    for flag, wanted in ((True, (count + 1) / (count + 2)), (False, 1 / (count + 2))):
        found = fit(kind, scores, np.full(count, flag))
        assert found.probability([-5.0, 0.2, 0.5, 5.0]) == pytest.approx(np.full(4, wanted), abs=1e-4)


@kinds
def test_scores_that_mislead_or_are_all_one_give_the_share(kind: Kind) -> None:
    right = np.array([True] * 50 + [False] * 50)
    for scores in (np.linspace(0, 1, 100), np.full(100, 0.1)):
        found = fit(kind, scores, right)
        assert found.probability([0.0, 0.1, 1.0]) == pytest.approx(np.full(3, 0.5), abs=1e-4)


@kinds
@pytest.mark.filterwarnings("error")
def test_scores_far_from_all_seen_give_the_ends_without_a_warning(kind: Kind) -> None:
    low, high = fit(kind, [0.2, 0.4, 0.9], [False, True, True]).probability([-1.7e308, math.inf])
    assert (low, high) == pytest.approx((0, 1) if kind == "platt" else (1 / 3, 3 / 4))


@kinds
def test_no_answer_is_never_right_and_plays_no_part_in_the_fit(kind: Kind) -> None:
    found = fit(kind, [0.2, 0.4, 0.9], [False, True, True])
    assert fit(kind, [-np.inf, 0.2, 0.4, 0.9, -np.inf], [False, False, True, True, False]) == found
    assert found.probability([[-np.inf, 0.9]]).tolist() == [[0.0, found.probability(0.9)]]
    assert fit(kind, [0.5], [True]).probability(-np.inf) == 0


@kinds
@pytest.mark.parametrize(
    ("scores", "right", "said"),
    [
        ([], [], "no query has an answer"),
        ([-math.inf], [False], "no query has an answer"),
        ([math.nan], [True], "NaN or inf"),
        ([math.inf], [True], "NaN or inf"),
        ([0.5, 0.6], [True], r"must both be \[n\]"),
        ([0.5], [1], "right must be bool"),
    ],
)
def test_what_cannot_be_fitted(kind: Kind, scores: list[float], right: list[object], said: str) -> None:
    with pytest.raises(CalibrationError, match=said):
        fit(kind, scores, right)


def test_a_score_of_nan_has_no_probability() -> None:
    with pytest.raises(CalibrationError, match="NaN"):
        fit("platt", [0.5], [True]).probability([math.nan])


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "isotonic", "scores": [0.1, 0.2], "probabilities": [0.5, 0.4]},
        {"kind": "isotonic", "scores": [0.2, 0.1], "probabilities": [0.4, 0.5]},
        {"kind": "isotonic", "scores": [0.2], "probabilities": [0.4, 0.5]},
        {"kind": "isotonic", "scores": [], "probabilities": []},
        {"kind": "isotonic", "scores": [0.2], "probabilities": [1.5]},
        {"kind": "platt", "mean": 0, "deviation": 0, "slope": 1, "offset": 0},
        {"kind": "platt", "mean": 0, "deviation": 1, "slope": -1, "offset": 0},
        {"kind": "beta"},
    ],
)
def test_what_is_no_calibration_is_not_read(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        READ.validate_json(json.dumps(wrong))


APPLY = """
import sys
import numpy as np
from cairn.retrieval.calibration import Calibration
from pydantic import TypeAdapter
for line in sys.stdin:
    found = TypeAdapter(Calibration).validate_json(line)
    probabilities = found.probability(np.linspace(-1, 1, 9, dtype=np.float32))
    print(*(float(p).hex() for p in probabilities))
assert not {"torch", "scipy"} & set(sys.modules)
print(np.__version__)
"""


def test_the_server_with_its_numpy_gives_the_same_probabilities() -> None:
    calibrations = [fit(kind, *many(300)) for kind in KINDS]
    content = "".join(found.model_dump_json() + "\n" for found in calibrations)
    python = default_server_env() / "bin" / "python"
    ran = subprocess.run([python, "-c", APPLY], input=content, capture_output=True, text=True, check=True)
    *lines, version = ran.stdout.splitlines()
    assert version.startswith("1.26")
    for found, line in zip(calibrations, lines, strict=True):
        wanted = found.probability(np.linspace(-1, 1, 9, dtype=np.float32))
        assert [float.fromhex(p) for p in line.split()] == pytest.approx(wanted, rel=1e-12)


def test_the_better_kind_is_the_one_whose_shape_the_truth_has() -> None:
    """A logistic truth is Platt's own; a step from .2 to .95 no logistic follows."""
    rng = np.random.default_rng(0)
    scores = rng.uniform(-1, 1, 4000)
    logistic = 1 / (1 + np.exp(-3 * scores))
    assert better(scores, rng.random(4000) < logistic) == "platt"
    skewed = np.sort(scores) ** 9
    assert better(skewed, rng.random(4000) < np.where(np.arange(4000) < 1000, 0.2, 0.95)) == "isotonic"


def test_too_few_answers_to_tell_are_platts() -> None:
    assert better(np.arange(9.0), np.arange(9) > 4) == "platt"
