"""The learning rate's course at points that can be worked out by hand, and which part gets which rate."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from cairn.losses.arcface import ArcFace
from cairn.losses.triplet import Triplet
from cairn.networks.embedder import Embedder, make_embedder
from cairn.params import load_params
from cairn.training.optimiser import clip_gradients, make_optimiser, rate_share, set_rates

SCHEDULE = load_params(Path(__file__).parents[2] / "params.yaml").train.scratch
HEAD = ArcFace(8, 3, 30.0, 0.3)


def network(first: str = "test_resnet", *joined: str) -> Embedder:
    torch.manual_seed(0)
    others = [(name, "none") for name in joined]
    return make_embedder(first, "none", "auto", "linear", 8, 32, 64, 10.0, "centre", others)


def rates_of(optimiser: torch.optim.Optimizer) -> dict[int, float]:
    return {id(p): group["full_lr"] for group in optimiser.param_groups for p in group["params"]}


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


def test_each_name_of_the_params_is_its_own_optimiser_and_sgd_has_the_momentum() -> None:
    made = {
        name: make_optimiser(network(), HEAD, SCHEDULE.model_copy(update={"optimiser": name, "momentum": 0.75}))
        for name in ("adamw", "adam", "sgd")
    }
    kinds = {name: type(optimiser) for name, optimiser in made.items()}
    assert kinds == {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    assert {group["momentum"] for group in made["sgd"].param_groups} == {0.75}


def test_without_layer_decay_a_part_has_one_decayed_and_one_undecayed_group_in_its_own_order() -> None:
    embedder = network()
    branch = embedder.branches[0]
    parts = [(branch.backbone, 0.25), (branch.pooling, 0.5), (embedder.neck, 0.5), (HEAD, 0.5)]
    wanted = []
    for module, rate in parts:
        for decayed in (True, False):
            chosen = [id(p) for p in module.parameters() if (p.ndim > 1) == decayed]
            wanted += [(rate, 0.05 if decayed else 0.0, chosen)] if chosen else []
    schedule = SCHEDULE.model_copy(update={"backbone_lr": 0.25, "head_lr": 0.5, "weight_decay": 0.05})
    groups = make_optimiser(embedder, HEAD, schedule).param_groups
    assert [(g["lr"], g["weight_decay"], [id(p) for p in g["params"]]) for g in groups] == wanted
    assert len({group["together"] for group in groups}) == len(groups)  # each clipped by itself


def test_each_layer_nearer_the_input_has_a_share_of_the_next_ones_rate() -> None:
    embedder = network("test_vit", "test_resnet")
    schedule = SCHEDULE.model_copy(update={"backbone_lr": 0.5, "head_lr": 2.0, "layer_decay": 0.8})
    optimiser = make_optimiser(embedder, HEAD, schedule)
    rates = rates_of(optimiser)
    transformer, resnet = (dict(branch.backbone.named_parameters()) for branch in embedder.branches)
    for name, depth in {"pos_embed": 6, "cls_token": 6, "patch_embed.proj.weight": 6, "blocks.0.norm1.bias": 5}.items():
        assert rates[id(transformer[name])] == pytest.approx(0.5 * 0.8**depth)
    for name, depth in {"blocks.3.attn.qkv.weight": 2, "blocks.5.mlp.fc1.bias": 0, "norm.weight": 0}.items():
        assert rates[id(transformer[name])] == pytest.approx(0.5 * 0.8**depth)
    for name, depth in {"conv1.0.weight": 4, "layer1.0.bn1.weight": 3, "layer4.0.conv1.weight": 0}.items():
        assert rates[id(resnet[name])] == pytest.approx(0.5 * 0.8**depth)
    others = [*embedder.neck.parameters(), *HEAD.parameters(), *embedder.branches[1].pooling.parameters()]
    assert {rates[id(p)] for p in others} == {2.0}
    assert len(rates) == sum(1 for module in (embedder, HEAD) for _ in module.parameters())
    for group in optimiser.param_groups:
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] > 0}


def test_layers_of_a_backbone_are_clipped_as_one_whatever_their_rates() -> None:
    clipped = []
    for decay in (1.0, 0.5):
        embedder = network("test_vit")
        optimiser = make_optimiser(embedder, HEAD, SCHEDULE.model_copy(update={"layer_decay": decay}))
        for number, parameter in enumerate([*embedder.parameters(), *HEAD.parameters()]):
            parameter.grad = torch.full_like(parameter, 1.0 + number % 3)
        clip_gradients(optimiser, 5.0)
        clipped.append([p.grad.clone() for p in embedder.parameters() if p.grad is not None])
        matrices = [p.grad.flatten() for p in embedder.branches[0].backbone.parameters() if p.ndim > 1]  # type: ignore[union-attr]
        assert torch.cat(matrices).norm().item() == pytest.approx(5.0, rel=1e-3)
    for one, other in zip(*clipped, strict=True):
        torch.testing.assert_close(one, other)


def test_frozen_layers_get_no_gradient_and_no_rate() -> None:
    embedder = network("test_vit", "test_resnet")
    rates = rates_of(make_optimiser(embedder, HEAD, SCHEDULE.model_copy(update={"frozen_layers": 3})))
    HEAD(embedder.train().features(torch.randn(4, 3, 32, 32)), torch.tensor([0, 1, 2, 0])).backward()
    stems = (
        ("cls_token", "pos_embed", "patch_embed.", "blocks.0.", "blocks.1."),
        ("conv1.", "bn1.", "layer1.", "layer2."),
    )
    for branch, frozen in zip(embedder.branches, stems, strict=True):
        for name, parameter in branch.backbone.named_parameters():
            trained = not name.startswith(frozen)
            assert (id(parameter) in rates, parameter.grad is not None) == (trained, trained), name


@pytest.mark.parametrize("optimiser", ["adamw", "adam", "sgd"])
def test_the_rows_of_a_head_may_be_all_that_is_trained(optimiser: str) -> None:
    embedder = make_embedder("test_resnet", "none", "mean", "none", None, 32, 64, 10.0, "centre")
    changes = {"optimiser": optimiser, "backbone_lr": 0.0, "class_share": 0.5}
    schedule = SCHEDULE.model_copy(update=changes)
    head = ArcFace(8, 3, 30.0, 0.3).requires_grad_(False)  # as training has it where classes are shared
    found = make_optimiser(embedder, head, schedule)
    assert rates_of(found) == {}
    assert set_rates(found, schedule, 0, 10) == pytest.approx(0.1)
    clip_gradients(found, 5.0)
    found.step()


def test_nothing_left_to_train_is_refused_with_the_ways_out() -> None:
    embedder = make_embedder("test_resnet", "none", "mean", "none", None, 32, 64, 10.0, "centre")
    head, frozen = Triplet(embedder.config.dimensions, 3, 0.5), SCHEDULE.model_copy(update={"backbone_lr": 0.0})
    with pytest.raises(ValueError, match=r"backbone_lr = 0 and neck = none .* \(Triplet\) .* another neck or loss"):
        make_optimiser(embedder, head, frozen)
    make_optimiser(embedder, head, SCHEDULE)


def test_a_backbone_that_would_be_frozen_whole_is_refused() -> None:
    make_optimiser(network(), HEAD, SCHEDULE.model_copy(update={"frozen_layers": 4}))
    with pytest.raises(ValueError, match="frozen_layers = 5: the backbone has 5 layers"):
        make_optimiser(network(), HEAD, SCHEDULE.model_copy(update={"frozen_layers": 5}))
