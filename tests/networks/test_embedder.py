"""The embedder: unit vectors, saved and loaded to the same vectors, weights from files, clear refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from made_pixels import made
from safetensors.torch import save_file

from cairn.export.onnx import HalfEmbedder, write_onnx
from cairn.export.onnx_run import run_onnx
from cairn.networks import embedder as embedders
from cairn.networks.backbones import (
    BackboneError,
    FeatureShape,
    default_size,
    feature_shape,
    features_of,
    make_backbone,
)
from cairn.networks.embedder import Embedder, load_embedder, make_embedder, preprocessing_for, save_embedder
from cairn.networks.necks import NECKS
from cairn.networks.params import NeckName, PoolingName
from cairn.networks.pooling import POOLINGS

CNN = "test_resnet"
TRANSFORMER = "test_vit"


def small(backbone: str, neck: NeckName = "linear", dimensions: int | None = 16, size: int | None = 64) -> Embedder:
    torch.manual_seed(0)
    return make_embedder(backbone, "none", "auto", neck, dimensions, size, 256, 50.0, "centre").eval()


@pytest.mark.parametrize("backbone", [CNN, TRANSFORMER])
@pytest.mark.parametrize("neck", ["none", "linear"])
def test_unit_vectors_that_survive_saving(tmp_path: Path, backbone: str, neck: str) -> None:
    embedder = small(backbone, neck)
    images = torch.randn(3, 3, 64, 64)
    vectors = embedder(images)
    assert vectors.shape == (3, embedder.config.dimensions)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))
    save_embedder(embedder, tmp_path)
    assert torch.equal(load_embedder(tmp_path)(images), vectors)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("neck", NECKS)
def test_every_pooling_and_neck_survives_saving_and_serves_in_half_precision(
    tmp_path: Path, pooling: PoolingName, neck: NeckName
) -> None:
    torch.manual_seed(0)
    embedder = make_embedder(TRANSFORMER, "none", pooling, neck, 16, 64, 256, 50.0, "centre")
    embedder.train()(torch.randn(8, 3, 64, 64))  # so that batch norms have statistics of their own
    embedder.eval()
    images = torch.randn(3, 3, 64, 64)
    vectors = embedder(images)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))
    save_embedder(embedder, tmp_path)
    assert torch.equal(load_embedder(tmp_path)(images), vectors)
    assert ((HalfEmbedder(embedder)(images) * vectors).sum(dim=1) >= 0.999).all()


@pytest.mark.parametrize(("pooling", "neck"), [("flatten", "linear_prelu"), ("max_flatten", "vgg")])
def test_onnx_of_flat_maps_and_other_necks_says_the_same(tmp_path: Path, pooling: PoolingName, neck: NeckName) -> None:
    torch.manual_seed(0)
    embedder = make_embedder(CNN, "none", pooling, neck, 16, 96, 256, 50.0, "centre").eval()
    how = embedder.config.preprocessing
    write_onnx(embedder, how, tmp_path / "model.onnx", 20, 8)
    pixels, images = made(3, how)
    for count in (1, 3):
        found = run_onnx(tmp_path / "model.onnx", pixels[:count], 1)
        assert ((found * embedder(images)[:count].detach().numpy()).sum(axis=1) >= 0.9999).all()


def test_vgg_16_is_flattened_as_its_own_classifier_does() -> None:
    backbone = make_backbone("vgg16_bn", "none", 224)
    assert feature_shape(backbone, 224) == FeatureShape(512, 0, 7, 7)
    assert sum(p.numel() for p in backbone.parameters()) == 14_723_136  # of the convolutions alone, as published
    assert not list(backbone.pre_logits.parameters())


def test_auto_pooling_follows_the_features() -> None:
    assert small(CNN).config.branches[0].pooling == "gem"
    assert small(TRANSFORMER).config.branches[0].pooling == "class_mean"
    assert small("test_vit2").config.branches[0].pooling == "mean"  # of its tokens, the first is a register
    assert small("vit_relpos_small_patch16_224", size=None).config.branches[0].pooling == "mean"  # patches alone


@pytest.mark.parametrize(
    ("trained_with", "ours"), [("bilinear", "bilinear"), ("bicubic", "bicubic"), ("lanczos", "bicubic")]
)
def test_photos_are_resized_as_the_weights_were_trained_or_else_bicubic(
    monkeypatch: pytest.MonkeyPatch, trained_with: str, ours: str
) -> None:
    names = {"bilinear": CNN, "bicubic": TRANSFORMER}
    if trained_with not in names:  # of timm's own, no backbone has another
        monkeypatch.setattr(embedders, "colours", lambda name: ((0.5,) * 3, (0.5,) * 3, trained_with))
    name = names.get(trained_with, CNN)
    assert preprocessing_for(name, 64, "centre", 256, 50.0).interpolation == ours


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_embedder(small(CNN), tmp_path / name)
    for file in ("model.safetensors", "config.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_weights_from_a_file_are_the_backbones_own(tmp_path: Path, dtype: torch.dtype) -> None:
    torch.manual_seed(3)
    model = timm.create_model(CNN, pretrained=False)
    file = tmp_path / "w.safetensors"
    save_file({k: v.to(dtype) if v.is_floating_point() else v for k, v in model.state_dict().items()}, file)
    loaded = make_backbone(CNN, str(file), default_size(CNN))
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[name].to(dtype).to(value.dtype))


def test_refusals_name_what_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="resnet_of_mine"):
        make_backbone("resnet_of_mine", "none", 64)
    with pytest.raises(BackboneError, match=r"absent\.safetensors"):
        make_backbone(CNN, str(tmp_path / "absent.safetensors"), 160)
    save_file({"stem.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(BackboneError, match="of another network"):
        make_backbone(CNN, str(tmp_path / "other.safetensors"), 160)
    with pytest.raises(FileNotFoundError, match="dvc repro train"):
        load_embedder(tmp_path)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
@pytest.mark.parametrize("broken", ["pointer", "empty", "half", "html", "list"])
def test_a_broken_file_of_weights_is_refused_with_what_is_wrong(tmp_path: Path, kind: str, broken: str) -> None:
    file = tmp_path / f"w.{kind}"
    tensors = timm.create_model(CNN, pretrained=False).state_dict()
    {"safetensors": save_file, "pth": torch.save}[kind](tensors, file)
    make_backbone(CNN, str(file), 160)
    whole = file.read_bytes()
    contents = {
        "pointer": POINTER,
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "html": b"<html>no such file</html>",
    }
    if broken == "list":
        torch.save([1, 2], file)
    else:
        file.write_bytes(contents[broken])
    said = {"pointer": "git lfs pull", "empty": "it is empty"}.get(broken, "Error: ")
    with pytest.raises(BackboneError, match=rf"{CNN}: weights '{file}' cannot be loaded: .*{said}.*; give a whole "):
        make_backbone(CNN, str(file), 160)


def test_joined_backbones_see_their_own_colours_and_weigh_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    joined = make_embedder(
        TRANSFORMER, "none", "auto", "none", None, 160, 256, 50.0, "centre", [("test_efficientnet", "none")]
    ).eval()
    first, second = joined.config.branches
    assert (first.pooling, second.pooling) == ("class_mean", "gem")
    assert (first.mean, first.std) != (second.mean, second.std)
    pixels = torch.rand(2, 3, 160, 160)
    parts = []
    for config, branch in zip(joined.config.branches, joined.branches, strict=True):
        mean, std = torch.tensor(config.mean)[:, None, None], torch.tensor(config.std)[:, None, None]
        features = branch.pooling(branch.backbone.forward_features((pixels - mean) / std))
        parts.append(features / features.norm(dim=1, keepdim=True))
    how = joined.config.preprocessing
    mean, std = torch.tensor(how.mean)[:, None, None], torch.tensor(how.std)[:, None, None]
    vectors = joined((pixels - mean) / std)
    torch.testing.assert_close(vectors, torch.cat(parts, dim=1) / 2**0.5, atol=1e-5, rtol=1e-4)
    save_embedder(joined, tmp_path)
    assert torch.equal(load_embedder(tmp_path)((pixels - mean) / std), vectors)


def test_joined_features_have_the_scale_that_a_random_neck_is_made_for() -> None:
    torch.manual_seed(0)
    members = [("test_efficientnet", "none")]
    necks: tuple[NeckName, ...] = ("linear", "vgg", "linear_relu", "dropout_linear")
    for neck in necks:
        joined = make_embedder(TRANSFORMER, "none", "auto", neck, 8, 160, 256, 50.0, "centre", members).eval()
        pooled = joined.pooled(torch.rand(2, 3, 160, 160))
        lengths = [part.norm(dim=1) for part in pooled.split([branch.width for branch in joined.branches], dim=1)]
        torch.testing.assert_close(lengths[0], lengths[1])
        root_mean_square = pooled.square().mean().sqrt().item()
        assert root_mean_square == pytest.approx((2 / pooled.shape[1]) ** 0.5 if neck == "linear" else 1.0, rel=1e-5)


def test_channels_that_come_last_are_pooled_as_channels() -> None:
    small = {"embed_dim": 12, "depths": (1, 1, 1, 1), "num_classes": 0, "global_pool": ""}
    backbone = timm.create_model("swin_tiny_patch4_window7_224", **small).eval()
    images = torch.rand(1, 3, 224, 224)
    given = backbone.forward_features(images)
    assert given.shape == (1, 7, 7, 96)
    assert feature_shape(backbone, 224) == FeatureShape(96, 0, 7, 7)
    torch.testing.assert_close(features_of(backbone, images)[0, :, 2, 5], given[0, 2, 5])
