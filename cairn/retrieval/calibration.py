"""From an answer's score to the probability that it is right: fitted with scipy, applied with numpy alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

Finite = Annotated[float, Field(allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0, le=1)]
Kind = Literal["platt", "isotonic"]
KINDS: tuple[Kind, ...] = ("platt", "isotonic")
FOLDS = 5


class CalibrationError(ValueError):
    """Scores that no probability can be fitted to or told of."""


class Curve(BaseModel, ABC):
    """A function from score to probability that never falls."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def probability(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Probabilities, float64 of the scores' shape; 0 for -inf, which is no answer.

        Raises CalibrationError if a score is NaN.
        """
        values = np.asarray(scores, dtype=np.float64)
        if np.isnan(values).any():
            raise CalibrationError("a score is NaN; leave queries without an answer out or score them -inf")
        return np.where(values == -np.inf, 0.0, self._rising(values))

    @abstractmethod
    def _rising(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities of scores; of no meaning for -inf."""


class Platt(Curve):
    """1 / (1 + exp(-(slope z + offset))) of the standardised score z = (score - mean) / deviation (Platt 1999)."""

    kind: Literal["platt"] = "platt"
    mean: Finite
    deviation: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    slope: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    offset: Finite

    def _rising(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.slope == 0:
            return np.full(scores.shape, _logistic(self.offset))
        with np.errstate(over="ignore"):
            return _logistic(self.slope * ((scores - self.mean) / self.deviation) + self.offset)


class Isotonic(Curve):
    """Straight lines between knots, flat before the first and behind the last; both lists rise."""

    kind: Literal["isotonic"] = "isotonic"
    scores: Annotated[tuple[Finite, ...], Field(min_length=1)]
    probabilities: Annotated[tuple[Probability, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _rise_together(self) -> Isotonic:
        if len(self.scores) != len(self.probabilities):
            raise ValueError(f"{len(self.scores)} scores and {len(self.probabilities)} probabilities; one each a knot")
        if any((np.diff(values) < 0).any() for values in (self.scores, self.probabilities)):
            raise ValueError("the knots' scores and probabilities must not fall")
        return self

    def _rising(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.interp(scores, self.scores, self.probabilities)


Calibration = Annotated[Platt | Isotonic, Field(discriminator="kind")]


def fit(kind: Kind, scores: ArrayLike, right: ArrayLike) -> Platt | Isotonic:
    """Fit to scores [n] and right bool [n], one row per query; rows of score -inf, no answer, are left out.

    platt: maximum likelihood with a slope of at least 0 (Platt 1999).
    isotonic: the least-squares rising steps (Zadrozny and Elkan 2002), each shrunk to its mean score and joined by
    straight lines, so that scores keep their order (Oron and Flournoy 2017); the lowest and the highest stay flat.
    Both see Platt's targets, (r + 1) / (r + 2) for each of r right answers and 1 / (w + 2) for each of w wrong ones, in
    place of 1 and 0: few answers, or answers all right or all wrong, never give certainty.

    Raises CalibrationError if shapes differ, right is not bool, a score is NaN or +inf, or there is no answer.
    """
    values, flags = _answers(scores, right)
    targets = np.where(flags, (flags.sum() + 1) / (flags.sum() + 2), 1 / ((~flags).sum() + 2))
    return _fit_platt(values, targets) if kind == "platt" else _fit_isotonic(values, targets)


def better(scores: ArrayLike, right: ArrayLike) -> Kind:
    """The kind whose probabilities are nearer the truth (Brier score) for answers that it was not fitted to.

    Of five folds, each every fifth answer in order of score; arguments and errors as in `fit`. platt where both are
    equal, or where there are too few answers to tell.
    """
    values, flags = _answers(scores, right)
    if len(values) < 2 * FOLDS:
        return "platt"
    folds = np.arange(len(values)) % FOLDS

    def error(kind: Kind) -> float:
        squares = np.empty(len(values))
        for held in (folds == n for n in range(FOLDS)):
            probabilities = fit(kind, values[~held], flags[~held]).probability(values[held])
            squares[held] = (probabilities - flags[held]) ** 2
        return float(squares.mean())

    return min(KINDS, key=error)


def _answers(scores: ArrayLike, right: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Both without rows of -inf, sorted, so that the order given plays no part."""
    values, flags = np.asarray(scores, dtype=np.float64), np.asarray(right)
    if values.ndim != 1 or values.shape != flags.shape:
        raise CalibrationError(f"scores {values.shape} and right {flags.shape} must both be [n], a row per query")
    if flags.size and flags.dtype != np.bool_:
        raise CalibrationError(f"right must be bool, not {flags.dtype}; compare predicted with true labels first")
    if (np.isnan(values) | (values == np.inf)).any():
        raise CalibrationError("a score is NaN or inf; a query without an answer has -inf")
    answered = values != -np.inf
    if not answered.any():
        raise CalibrationError("no query has an answer; a calibration needs at least one")
    values, flags = values[answered], flags[answered]
    order = np.lexsort((flags, values))
    return values[order], flags[order]


def _fit_platt(scores: NDArray[np.float64], targets: NDArray[np.float64]) -> Platt:
    from scipy.optimize import minimize

    alike = scores[0] == scores[-1]
    mean, deviation = (float(scores[0]), 1.0) if alike else (float(scores.mean()), float(scores.std()))
    standard = (scores - mean) / deviation

    def loss(line: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = line[0] * standard + line[1]
        off = _logistic(logits) - targets
        return float((np.logaddexp(0, logits) - targets * logits).mean()), np.array(
            [(off * standard).mean(), off.mean()]
        )

    tight = {"ftol": 1e-15, "gtol": 1e-10, "maxiter": 1000}
    found = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[(0, None), (None, None)], options=tight)
    return Platt(mean=mean, deviation=deviation, slope=float(found.x[0]), offset=float(found.x[1]))


def _fit_isotonic(scores: NDArray[np.float64], targets: NDArray[np.float64]) -> Isotonic:
    from scipy.optimize import isotonic_regression

    levels, group, counts = np.unique(scores, return_inverse=True, return_counts=True)
    steps = isotonic_regression(np.bincount(group, weights=targets) / counts, weights=counts)
    starts = steps.blocks[:-1]
    knots = np.add.reduceat(levels * counts, starts) / np.add.reduceat(counts, starts)
    knots[0] = levels[steps.blocks[1] - 1]
    if len(knots) > 1:
        knots[-1] = levels[starts[-1]]
    return Isotonic(scores=tuple(knots.tolist()), probabilities=tuple(steps.x[starts].tolist()))


def _logistic(logits: NDArray[np.float64] | float) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(np.negative(logits))), dtype=np.float64)
