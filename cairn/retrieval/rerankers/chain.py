"""Re-rankers joined in order, the order checked; and the learned one among them fitted where it stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cairn.retrieval.rerankers import RERANKERS, Step
from cairn.retrieval.rerankers.base import Context, Reranker, RerankError
from cairn.retrieval.rerankers.boosted import BoostedParams, fit, out_of_fold
from cairn.retrieval.result import Result


@dataclass(frozen=True)
class Chain:
    """Steps in order. A chain of none leaves a result as it is."""

    steps: tuple[Reranker, ...]

    def process(self, result: Result) -> Result:
        """Each step's outcome handed to the next."""
        for step in self.steps:
            result = step.process(result)
        return result


def check_order(steps: Sequence[Step]) -> None:
    """First steps that sort neighbours, then one that answers, then those that change the answers' scores.

    Raises RerankError otherwise. A chain may end before it answers.
    """
    answered = False
    for step in steps:
        if step.changes == "scores" and not answered:
            raise RerankError(f"{step.name} changes answers' scores: a step that answers must come before it")
        if step.changes != "scores" and answered:
            raise RerankError(f"{step.name} comes after a step that has answered: its work would be lost")
        answered = answered or step.changes == "answers"


def learns(steps: Sequence[Step]) -> bool:
    """Whether `fit_chain` fits a model, for which it needs all validation queries at once."""
    return any(isinstance(step, BoostedParams) for step in steps)


def build_chain(steps: Sequence[Step], context: Context) -> Chain:
    """The chain that params describe. Raises RerankError if the order is impossible or the context lacks something."""
    check_order(steps)
    return Chain(tuple(RERANKERS[step.name](step, context) for step in steps))


def fit_chain(
    steps: Sequence[Step], context: Context, validation: Result, true: NDArray[np.int64], seed: int, threads: int
) -> tuple[Context, Result]:
    """The context with a fitted model if the chain learns, and the validation result at the chain's end.

    `true` int64 [queries] is what each validation query shows (NONE: nothing). Where the chain learns, validation
    answers come from models that did not see the landmark in question, so that a threshold may be chosen on them.
    Raises RerankError as `build_chain` and `cairn.retrieval.rerankers.boosted.fit` do.
    """
    check_order(steps)
    at, learner = next(((at, step) for at, step in enumerate(steps) if isinstance(step, BoostedParams)), (0, None))
    if learner is None:
        return context, build_chain(steps, context).process(validation)
    before = build_chain(steps[:at], context).process(validation)
    learnt = replace(context, boosted_model=fit(before, true, learner, context, seed, threads))
    answers = out_of_fold(before, true, learner, context, seed, threads)
    after = Chain(tuple(RERANKERS[step.name](step, learnt) for step in steps[at + 1 :]))
    return learnt, after.process(answers)
