"""The learning rate's course at points that can be worked out by hand, and which part gets which rate."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from cairn.losses.arcface import ArcFace
from cairn.networks.embedder import make_embedder
from cairn.params import load_params
from cairn.training.optimiser import make_optimiser, rate_share, set_rates

SCHEDULE = load_params(Path(__file__).parents[2] / "params.yaml").train.scratch


def test_warm_up_rises_linearly_and_the_cosine_falls_to_nothing() -> None:
    course = [rate_share("cosine", step, 110, 10) for step in range(110)]
    assert course[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert course[10] == 1
    assert course[60] == pytest.approx(0.5)  # half way through the cosine
    assert course[35] == pytest.approx(0.5 + 0.5**0.5 / 2)  # a quarter: cos 45 degrees
    assert course[109] < 0.001
    assert all(a > b for a, b in itertools.pairwise(course[10:]))


def test_no_warm_up_starts_at_once() -> None:
    assert rate_share("cosine", 0, 10, 0) == 1


def test_a_constant_rate_stays_and_an_exponential_one_loses_four_percent_in_a_hundred_steps() -> None:
    assert [rate_share("constant", step, 500, 2) for step in (0, 2, 499)] == [0.5, 1, 1]
    assert rate_share("exponential", 102, 500, 2) == pytest.approx(0.96)
    assert rate_share("exponential", 302, 500, 2) == pytest.approx(0.96**3)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_parts_have_their_own_rates_and_a_frozen_backbone_none(name: str) -> None:
    embedder = make_embedder("test_resnet", "none", "auto", "linear", 8, 32, 64, 10.0, "centre")
    head = ArcFace(8, 3, 30.0, 0.3)
    rates = {"backbone_lr": 0.25, "head_lr": 0.5, "optimiser": name, "course": "constant", "warmup_epochs": 1.0}
    schedule = SCHEDULE.model_copy(update=rates)
    optimiser = make_optimiser(embedder, head, schedule)
    set_rates(optimiser, schedule, step=4, steps_an_epoch=10)  # half way through the warm-up
    rate_of = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    assert {rate_of[id(p)] for p in embedder.branches[0].backbone.parameters()} == {0.125}
    others = [*embedder.branches[0].pooling.parameters(), *embedder.neck.parameters(), *head.parameters()]
    assert {rate_of[id(p)] for p in others} == {0.25}
    undecayed = [p for group in optimiser.param_groups if group["weight_decay"] == 0 for p in group["params"]]
    assert all(p.ndim <= 1 for p in undecayed)
    frozen = make_optimiser(embedder, head, schedule.model_copy(update={"backbone_lr": 0.0}))
    trained = {id(p) for group in frozen.param_groups for p in group["params"]}
    assert not trained & {id(p) for p in embedder.branches[0].backbone.parameters()}
