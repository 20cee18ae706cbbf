"""From queries to answers through a real index, and the rule and the context as they are saved and found again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from retrieval.made_index import made_index

from cairn.files import FormError, write_form
from cairn.retrieval.answer import ANSWER_FILE, AnswerRule, answered, rule_of
from cairn.retrieval.calibration import KINDS, Kind, fit
from cairn.retrieval.context import open_context, save_context
from cairn.retrieval.index import PhotoIndex
from cairn.retrieval.rerankers import Step
from cairn.retrieval.rerankers.base import Context
from cairn.retrieval.rerankers.chain import build_chain
from cairn.retrieval.rerankers.classifier import CosineClassifier
from cairn.retrieval.rerankers.distractor_penalty import DistractorPenaltyParams
from cairn.retrieval.rerankers.knn_vote import KnnVoteParams
from cairn.retrieval.rerankers.prototypes import prototypes_of
from cairn.retrieval.rerankers.superglobal import SuperGlobalParams

IDS = np.array([3, 5, 8])
VECTORS = np.array([[1, 0, 0], [0, 1, 0], [0, 0.6, 0.8]], dtype=np.float32)
INDEX = PhotoIndex(made_index(VECTORS, IDS), IDS, np.array([10, 20, 20]))
CLASSIFIER = CosineClassifier(np.array([10, 20]), np.eye(2, 3, dtype=np.float32)[:, None], 8.0)
STEPS = (
    SuperGlobalParams(top=3, neighbours=2),
    DistractorPenaltyParams(kind="index_side", weight=0.5, top=1),
    KnnVoteParams(top=2, power=1.0, clip=False),
    DistractorPenaltyParams(kind="query_side", top=1),
)


def test_queries_are_answered_from_their_neighbours() -> None:
    chain = build_chain([KnnVoteParams(top=2, power=2)], Context())
    got = answered(np.array([[0.6, 0.8, 0], [1, 0, 0]], dtype=np.float32), INDEX, 3, chain).decided
    assert got.landmark_ids.tolist() == [20, 10]
    assert got.scores.tolist() == pytest.approx([0.8**2, 1.0])  # .6 to landmark 10 and .48 to photo 8 come after


def test_a_rule_and_its_context_are_found_again(tmp_path: Path) -> None:
    rule = AnswerRule(
        neighbours=3, steps=STEPS, threshold=0.25, calibration=fit("platt", [0, 1, 2], [False, True, True])
    )
    write_form(tmp_path / ANSWER_FILE, rule)
    again = rule_of(tmp_path)
    assert again == rule
    context = Context(vectors=lambda ids: VECTORS[np.searchsorted(IDS, ids)], distractors=VECTORS[:1])
    save_context(tmp_path / "context", STEPS, context, IDS, VECTORS)
    queries = np.array([[0.6, 0.8, 0], [0, 0.8, 0.6]], dtype=np.float32)
    wanted = answered(queries, INDEX, 3, build_chain(rule.steps, context))
    got = answered(queries, INDEX, 3, build_chain(again.steps, open_context(tmp_path / "context")))
    assert np.array_equal(got.decided.scores, wanted.decided.scores)
    assert np.array_equal(got.neighbours.image_ids, wanted.neighbours.image_ids)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_of_any_size_have_the_probability_that_they_had(tmp_path: Path, kind: Kind) -> None:
    """A vote's power makes scores as small as .5^32."""
    scores = np.linspace(0.2, 0.65, 40).astype(np.float32) ** 32
    calibration = fit(kind, scores, np.arange(40) % 3 > 0)
    rule = AnswerRule(neighbours=100, steps=(), threshold=float(scores[7]), calibration=calibration)
    write_form(tmp_path / ANSWER_FILE, rule)
    again = rule_of(tmp_path)
    assert again.calibration is not None
    assert np.array_equal(again.calibration.probability(scores), calibration.probability(scores))
    assert (scores >= again.threshold).tolist() == [False] * 7 + [True] * 33


def test_a_classifier_that_has_a_say_is_found_again(tmp_path: Path) -> None:
    steps = (KnnVoteParams(head_power=2),)
    save_context(tmp_path / "context", steps, Context(classifier=CLASSIFIER), IDS, VECTORS)
    queries = np.array([[0.6, 0.8, 0]], dtype=np.float32)
    wanted = answered(queries, INDEX, 3, build_chain(steps, Context(classifier=CLASSIFIER))).decided
    got = answered(queries, INDEX, 3, build_chain(steps, open_context(tmp_path / "context"))).decided
    assert got.scores.tolist() == wanted.scores.tolist()


@pytest.mark.parametrize(
    ("steps", "names"),
    [
        (STEPS[2:3], []),
        (STEPS[2:], ["distractors.npy"]),
        (STEPS, ["distractors.npy", "vector_ids.npy", "vectors.npy"]),
        ((KnnVoteParams(head_power=1),), ["classifier.npz"]),
        ((KnnVoteParams(prototype_weight=1),), ["prototypes.npz"]),
    ],
)
def test_only_what_a_step_asks_for_is_kept(tmp_path: Path, steps: tuple[Step, ...], names: list[str]) -> None:
    prototypes = prototypes_of(VECTORS, np.array([10, 20, 20]), None)
    context = Context(distractors=VECTORS[:1], classifier=CLASSIFIER, prototypes=prototypes)
    save_context(tmp_path / "context", steps, context, IDS, VECTORS)
    assert sorted(path.name for path in (tmp_path / "context").iterdir()) == names


def test_a_rule_with_a_key_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValidationError, match="vote_power"):
        AnswerRule.model_validate({"neighbours": 1, "steps": [], "threshold": 0, "calibration": None, "vote_power": 8})


def test_a_rule_that_is_missing_or_damaged_is_named_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(FormError, match=r"answer.json: no such file; run `make repro`"):
        rule_of(tmp_path)
    for content, said in ((b"\xff", "the file: Invalid JSON"), (b'{"neighbours": "x"}', "neighbours: Input should be")):
        (tmp_path / "answer.json").write_bytes(content)
        with pytest.raises(FormError, match=rf"answer.json: {said}.*; run `make repro`"):
            rule_of(tmp_path)
