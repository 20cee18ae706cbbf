"""From neighbours to better answers, a step at a time. A new re-ranker is one file here, and a line in each table.

Each step is `process(result) -> result`; `chain.py` joins them in order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field

from cairn.retrieval.rerankers import boosted, classify, distractor_penalty, knn_vote, local_features, superglobal
from cairn.retrieval.rerankers.base import Context, Reranker
from cairn.retrieval.rerankers.boosted import BoostedParams
from cairn.retrieval.rerankers.classify import ClassifyParams
from cairn.retrieval.rerankers.distractor_penalty import DistractorPenaltyParams
from cairn.retrieval.rerankers.knn_vote import KnnVoteParams
from cairn.retrieval.rerankers.local_features import LocalFeaturesParams
from cairn.retrieval.rerankers.superglobal import SuperGlobalParams

# The params of one step, told apart by `name`.
Step = Annotated[
    BoostedParams | ClassifyParams | DistractorPenaltyParams | KnnVoteParams | LocalFeaturesParams | SuperGlobalParams,
    Field(discriminator="name"),
]

# name -> re-ranker, from (its params, context)
RERANKERS: dict[str, Callable[[Any, Context], Reranker]] = {
    "boosted": boosted.build,
    "classify": classify.build,
    "distractor_penalty": distractor_penalty.build,
    "knn_vote": knn_vote.build,
    "local_features": local_features.build,
    "superglobal": superglobal.build,
}
