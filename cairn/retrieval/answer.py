"""From a query to an answer: which landmark, how sure, or none; the same in `evaluate` and on the server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from cairn.files import read_form
from cairn.retrieval.calibration import Calibration
from cairn.retrieval.index import PhotoIndex
from cairn.retrieval.rerankers import Step
from cairn.retrieval.rerankers.chain import Chain
from cairn.retrieval.result import Result, searched

ANSWER_FILE = "answer.json"


class AnswerRule(BaseModel):
    """How neighbours become an answer; chosen by `evaluate`, saved as answer.json, obeyed by the server."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    neighbours: int  # how many are searched for
    steps: tuple[Step, ...]  # re-rankers, one of which answers
    threshold: float  # an answer of a lower score is "no landmark"
    calibration: Calibration | None  # of a score into the probability that the answer is right


def rule_of(folder: Path) -> AnswerRule:
    """What answer.json in `folder` says. Raises cairn.files.FormError if it is missing or wrong."""
    return read_form(folder / ANSWER_FILE, AnswerRule, "run `make repro`, which exports it")


def answered(
    queries: NDArray[np.float32],
    index: PhotoIndex,
    neighbours: int,
    chain: Chain,
    query_ids: NDArray[np.int64] | None = None,
) -> Result:
    """Unit vectors float32 [queries, dimensions], their neighbours in the index, and what the chain makes of them."""
    return chain.process(searched(queries, index.search(queries, neighbours), query_ids))
