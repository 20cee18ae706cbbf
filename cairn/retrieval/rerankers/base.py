"""What every re-ranker shares: its params' base, what it may ask the context for, and its one method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from cairn.retrieval.local.features import Features
from cairn.retrieval.rerankers.prototypes import Prototypes
from cairn.retrieval.result import Result

Changes = Literal["neighbours", "answers", "scores"]
Thing = TypeVar("Thing")


class RerankError(ValueError):
    """A re-ranker that cannot be built from its params and context, or a chain in an impossible order."""


class StepParams(BaseModel, ABC):
    """Params of one step of a chain: immutable, no key but those named; a `name` tells which step it is."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @property
    @abstractmethod
    def changes(self) -> Changes:
        """What the step does: sort neighbours anew, make answers of them, or change the answers' scores."""

    @property
    def looks_up_vectors(self) -> bool:
        """Whether it asks the context for the vectors of index photos."""
        return False

    @property
    def asks_classifier(self) -> bool:
        """Whether it asks the context for the classifier."""
        return False

    @property
    def asks_prototypes(self) -> bool:
        """Whether it asks the context for prototypes."""
        return False

    @property
    def depth(self) -> int:
        """How many neighbours it looks at, if that is a param."""
        return 0

    @property
    def asks_distractors(self) -> bool:
        """Whether it cannot do without distractors on the train side."""
        return False

    @property
    def served(self) -> bool:
        """Whether the server can run it; where not, `evaluate` fits a second rule for the server, without it."""
        return True


class Reranker(Protocol):
    """One step of a chain."""

    def process(self, result: Result) -> Result:
        """The result changed in one way; each query on its own, whatever others stand beside it."""


class Classifier(Protocol):
    """A network's head, over the landmarks that it was trained on."""

    @property
    def landmark_ids(self) -> NDArray[np.int64]:
        """int64 [classes], rising."""

    def __call__(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Unit vectors [n, dimensions] -> probabilities [n, classes]."""


@dataclass(frozen=True)
class Context:
    """What re-rankers may need; a step that needs what is none refuses to be built.

    vectors: image ids int64 [n] of the index -> unit vectors float32 [n, dimensions]
    distractors: unit vectors float32 [n, dimensions] of photos that show no landmark, **of the train side only**: the
        published triplet system took them from the test set, which leaks
    classifier: the network's head
    prototypes: a vector for each landmark of the index
    features: of each step that compares photos, by its params: an index photo's or a query's id -> its local features
    watch: rows of long work and what is being done -> the same rows, while somebody is told how far it has come
    boosted_model: the learned re-ranker, as LightGBM's text
    """

    vectors: Callable[[NDArray[np.int64]], NDArray[np.float32]] | None = None
    distractors: NDArray[np.float32] | None = None
    classifier: Classifier | None = None
    prototypes: Prototypes | None = None
    features: Mapping[StepParams, Callable[[int], Features]] = field(default_factory=dict)
    watch: Callable[[Sequence[int], str], Iterable[int]] | None = None
    boosted_model: str | None = None


def needed(thing: Thing | None, step: str, what: str) -> Thing:
    """`thing`, or RerankError that names the step and what it lacks."""
    if thing is None:
        raise RerankError(f"{step} needs {what}, and the context has none")
    return thing


def needed_distractors(context: Context, step: str) -> NDArray[np.float32]:
    """The context's distractors. Raises RerankError if there are none."""
    distractors = needed(context.distractors, step, "distractors of the train side")
    if distractors.ndim != 2 or len(distractors) == 0:
        raise RerankError(f"{step} needs distractors of the train side [n, dimensions], not {distractors.shape}")
    return distractors
