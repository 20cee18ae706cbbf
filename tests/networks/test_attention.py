"""The attention branch against its formula, around a backbone of maps and one of tokens, saved, and as ONNX."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from made_pixels import made
from pydantic import ValidationError
from torch import Tensor, nn

from cairn.export.onnx import HalfEmbedder, write_onnx
from cairn.export.onnx_run import run_onnx
from cairn.losses.attention import summed
from cairn.losses.softmax import Softmax
from cairn.networks.attention import AttentionBackbone, AttentionBranch
from cairn.networks.backbones import BackboneError, feature_shape, folded, make_backbone
from cairn.networks.embedder import Embedder, load_embedder, make_embedder, save_embedder
from cairn.networks.params import AttentionParams
from cairn.networks.pooling import ClassMean, Gem, Pooling

SIZE = 64
CLASSES = 5
BACKBONES = ["test_resnet", "test_vit"]
IMAGES = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


@cache
def wrapped(name: str, weighting: str = "residual") -> AttentionBackbone:
    """In eval mode, with batch norms that have statistics of their own; made once."""
    torch.manual_seed(0)
    params = AttentionParams.model_validate({"weighting": weighting, "width": 16})
    backbone = AttentionBackbone(make_backbone(name, "none", SIZE), SIZE, CLASSES, params)
    for module in backbone.attention.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        backbone.train().forward_features(torch.randn(8, 3, SIZE, SIZE))
    return backbone.eval()


def embedder_of(name: str) -> Embedder:
    """A new embedder whose backbone and attention branch have the weights and statistics of `wrapped`."""
    torch.manual_seed(2)
    params = AttentionParams(width=16)
    embedder = make_embedder(
        name, "none", "auto", "linear", 16, SIZE, 256, 50.0, "centre", attention=params, classes=CLASSES
    )
    embedder.branches[0].backbone.load_state_dict(wrapped(name).state_dict())
    return embedder.eval()


def by_hand(branch: AttentionBranch, features: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Class scores and M from the branch's weights: 3x3 convolutions by torch, all else in numpy."""
    first, second, norm, last, _ = branch.shared
    maps = second(first(features)).detach().double().numpy()
    maps = batch_norm(maps, norm)
    shared = np.maximum(0, pointwise(maps, last))
    scores = pointwise(shared, branch.score).mean(axis=(2, 3))
    return scores, 1 / (1 + np.exp(-batch_norm(pointwise(shared, branch.map[0]), branch.map[1])))


def pointwise(maps: np.ndarray, convolution: nn.Conv2d) -> np.ndarray:
    weights, bias = convolution.weight.detach().double().numpy()[:, :, 0, 0], convolution.bias.detach().numpy()
    return np.einsum("oi,bihw->bohw", weights, maps) + bias[:, None, None]


def batch_norm(maps: np.ndarray, norm: nn.BatchNorm2d) -> np.ndarray:
    values = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    mean, variance, scale, shift = (value.detach().double().numpy()[:, None, None] for value in values)
    return (maps - mean) / np.sqrt(variance + norm.eps) * scale + shift


@torch.no_grad()
def test_the_branch_is_its_formula() -> None:
    backbone = wrapped("test_resnet")
    features = backbone.backbone.forward_features(IMAGES)
    scores, attention = by_hand(backbone.attention, features)
    found = backbone.branches(IMAGES)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.attention, attention, rtol=1e-4, atol=1e-5)
    assert found.scores.shape == (3, CLASSES)
    assert found.attention.shape == (3, 1, *features.shape[2:])
    assert found.attention.std() > 0.01


@torch.no_grad()
@pytest.mark.parametrize("weighting", ["residual", "plain"])
def test_a_map_is_weighted_place_by_place(weighting: str) -> None:
    backbone = wrapped("test_resnet", weighting)
    features, found = backbone.backbone.forward_features(IMAGES), backbone.branches(IMAGES)
    factor = found.attention.expand_as(features) + (1 if weighting == "residual" else 0)
    torch.testing.assert_close(found.features, features * factor)
    torch.testing.assert_close(backbone.forward_features(IMAGES), found.features)


@torch.no_grad()
@pytest.mark.parametrize("weighting", ["residual", "plain"])
def test_tokens_are_weighted_at_their_own_place_and_class_tokens_pass(weighting: str) -> None:
    backbone = wrapped("test_vit", weighting)
    tokens, found = backbone.backbone.forward_features(IMAGES), backbone.branches(IMAGES)
    assert backbone.num_prefix_tokens == 1
    torch.testing.assert_close(found.features[:, 0], tokens[:, 0], rtol=0, atol=0)
    side = found.attention.shape[-1]
    for place in range(side * side):
        factor = found.attention[:, 0, place // side, place % side] + (1 if weighting == "residual" else 0)
        torch.testing.assert_close(found.features[:, 1 + place], tokens[:, 1 + place] * factor[:, None])


def test_patches_fold_row_by_row() -> None:
    patches = torch.arange(9.0)[None, :, None] + torch.tensor([0.0, 100.0])
    assert folded(patches)[0, 0].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert folded(patches)[0, 1, 2, 0] == 106
    with pytest.raises(BackboneError, match="8 patch tokens"):
        folded(patches[:, :8])


@pytest.mark.parametrize("name", BACKBONES)
def test_the_shape_that_pooling_sees_is_the_backbones_own(name: str) -> None:
    assert feature_shape(wrapped(name), SIZE) == feature_shape(make_backbone(name, "none", SIZE), SIZE)


@pytest.mark.parametrize(("name", "kind"), [("test_resnet", Gem), ("test_vit", ClassMean)])
def test_both_losses_reach_every_weight_of_the_branch_and_the_backbone(name: str, kind: type[Pooling]) -> None:
    backbone = copy.deepcopy(wrapped(name)).train()
    pooling = kind(feature_shape(backbone, SIZE))
    found = backbone.branches(IMAGES)
    pooled = pooling(found.features)
    summed(Softmax(pooled.shape[1], CLASSES, 0.0), pooled, found.scores, torch.tensor([0, 1, 2])).backward()
    unreached = [key for key, value in backbone.attention.named_parameters() if value.grad is None]
    assert unreached == []
    assert any(value.grad is not None and value.grad.any() for value in backbone.backbone.parameters())


@torch.no_grad()
@pytest.mark.parametrize("name", BACKBONES)
def test_an_embedder_with_attention_survives_saving(tmp_path: Path, name: str) -> None:
    embedder = embedder_of(name)
    save_embedder(embedder, tmp_path)
    torch.manual_seed(1)
    loaded = load_embedder(tmp_path)
    assert loaded.config == embedder.config
    assert torch.equal(loaded(IMAGES), embedder(IMAGES))
    assert loaded.branches[0].attention is not None
    for one, other in zip(loaded.seen(IMAGES), embedder.seen(IMAGES), strict=True):
        assert one is not None
        assert torch.equal(one, other)


@torch.no_grad()
@pytest.mark.parametrize("name", BACKBONES)
def test_one_pass_sees_the_features_the_scores_and_the_map(name: str) -> None:
    embedder, backbone = embedder_of(name), wrapped(name)
    seen, wanted = embedder.seen(IMAGES), backbone.branches(IMAGES)
    assert torch.equal(seen.scores, wanted.scores)
    assert torch.equal(seen.attention, wanted.attention)
    torch.testing.assert_close(seen.features, embedder.features(IMAGES))


@torch.no_grad()
def test_of_joined_backbones_only_the_first_has_a_branch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    joined = make_embedder(
        "test_vit",
        "none",
        "auto",
        "linear",
        8,
        SIZE,
        256,
        50.0,
        "centre",
        [("test_resnet", "none")],
        attention=AttentionParams(),
        classes=CLASSES,
    ).eval()
    first, second = joined.branches
    assert isinstance(first.backbone, AttentionBackbone)
    assert first.trunk is first.backbone.backbone
    assert second.attention is None
    assert second.trunk is second.backbone
    seen = joined.seen(IMAGES)
    assert seen.scores is not None
    assert seen.scores.shape == (3, CLASSES)
    torch.testing.assert_close(seen.features, joined.features(IMAGES))
    save_embedder(joined, tmp_path)
    assert torch.equal(load_embedder(tmp_path)(IMAGES), joined(IMAGES))


def test_without_a_branch_nothing_of_it_is_seen_or_saved(tmp_path: Path) -> None:
    torch.manual_seed(0)
    embedder = make_embedder("test_resnet", "none", "auto", "linear", 8, SIZE, 256, 50.0, "centre").eval()
    seen = embedder.seen(IMAGES)
    assert (seen.scores, seen.attention) == (None, None)
    assert torch.equal(seen.features, embedder.features(IMAGES))
    save_embedder(embedder, tmp_path)
    assert "attention" not in (tmp_path / "config.json").read_text()
    with pytest.raises(ValidationError, match="number of its classes"):
        make_embedder(
            "test_resnet", "none", "auto", "linear", 8, SIZE, 256, 50.0, "centre", attention=AttentionParams()
        )


@pytest.mark.parametrize("name", BACKBONES)
def test_onnx_says_the_same_for_any_batch_and_leaves_the_class_scores_out(tmp_path: Path, name: str) -> None:
    embedder = embedder_of(name)
    how = embedder.config.preprocessing
    write_onnx(embedder, how, tmp_path / "model.onnx", 20, 8)
    pixels, images = made(3, how)
    wanted = embedder(images).detach().numpy()
    for count in (1, 3):
        found = run_onnx(tmp_path / "model.onnx", pixels[:count], 1)
        assert ((found * wanted[:count]).sum(axis=1) >= 0.9999).all()
    shapes = [tuple(tensor.dims) for tensor in onnx.load(tmp_path / "model.onnx").graph.initializer]
    assert (1, CLASSES, 1, 1) in shapes
    assert (CLASSES, CLASSES, 1, 1) not in shapes


@torch.no_grad()
@pytest.mark.parametrize("name", BACKBONES)
def test_in_half_precision_it_says_the_same(name: str) -> None:
    embedder = embedder_of(name)
    assert ((HalfEmbedder(embedder)(IMAGES) * embedder(IMAGES)).sum(dim=1) >= 0.999).all()


def test_the_convolutions_are_as_wide_as_the_features_unless_said() -> None:
    backbone = make_backbone("test_resnet", "none", SIZE)
    channels = feature_shape(backbone, SIZE).channels
    branch = AttentionBackbone(backbone, SIZE, CLASSES, AttentionParams()).attention
    assert [tuple(branch.shared[i].weight.shape[:2]) for i in range(2)] == [(channels, channels)] * 2


def test_more_classes_than_the_branch_can_weigh_are_refused() -> None:
    backbone = make_backbone("test_resnet", "none", SIZE)
    AttentionBackbone(backbone, SIZE, 5000, AttentionParams(width=8))
    with pytest.raises(ValueError, match="5001 landmarks, over its limit of 5000; set it to null"):
        AttentionBackbone(backbone, SIZE, 5001, AttentionParams(width=8))


@pytest.mark.parametrize("wrong", [{"weighting": "none"}, {"width": 4}, {"alpha": -0.1}, {"beta": 0}, {"gamma": 1}])
def test_params_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        AttentionParams.model_validate(wrong)
