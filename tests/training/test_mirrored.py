"""Embedding a photo together with its mirror image: worked out from the two, saved, and exported as one network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from made_pixels import made
from torch.nn.functional import normalize

from cairn.export.onnx import HalfEmbedder, write_onnx
from cairn.export.onnx_run import onnx_session, run_onnx
from cairn.networks.embedder import CONFIG_FILE, Embedder, load_embedder, make_embedder, save_embedder

IMAGES = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def network(mirrored: bool, any_size: bool = False, backbone: str = "test_vit") -> Embedder:
    torch.manual_seed(0)
    how = {"mirrored": mirrored, "any_size": any_size}
    embedder = make_embedder(backbone, "none", "auto", "linear", 16, 64, 256, 50.0, "centre", **how)  # type: ignore[arg-type]
    embedder.train().features(torch.randn(8, 3, 64, 64))  # so that batch norms have statistics of their own
    return embedder.eval()


@torch.no_grad()
def test_it_is_the_mean_direction_of_both_and_a_mirror_image_changes_nothing() -> None:
    both, one = network(mirrored=True), network(mirrored=False)
    photo, mirror = one(IMAGES), one(torch.from_numpy(IMAGES.numpy()[:, :, :, ::-1].copy()))
    assert (photo * mirror).sum(dim=1).max() < 0.999  # else there is nothing to see here
    torch.testing.assert_close(both(IMAGES), normalize((photo + mirror) / 2, dim=1))
    torch.testing.assert_close(both(IMAGES.flip(3)), both(IMAGES))
    assert torch.equal(both.features(IMAGES), one.features(IMAGES))  # what training sees is of the photo alone


@torch.no_grad()
def test_it_is_saved(tmp_path: Path) -> None:
    both = network(mirrored=True)
    save_embedder(both, tmp_path / "both")
    assert torch.equal(load_embedder(tmp_path / "both")(IMAGES), both(IMAGES))
    save_embedder(network(mirrored=False), tmp_path / "one")
    assert json.loads((tmp_path / "both" / CONFIG_FILE).read_text())["mirrored"] is True
    assert json.loads((tmp_path / "one" / CONFIG_FILE).read_text())["mirrored"] is False


@pytest.mark.parametrize(
    ("precision", "backbone", "least"),
    [("fp32", "test_vit3", 0.99999), ("fp16", "test_vit3", 0.999), ("fp32", "test_resnet", 0.99999)],
)
def test_it_is_exported_as_one_network_for_any_batch(
    tmp_path: Path, precision: str, backbone: str, least: float
) -> None:
    # Made for any size, as progressive sizes make it: the graph still has the full size alone.
    both = network(mirrored=True, any_size=True, backbone=backbone)
    how = both.config.preprocessing
    write_onnx(both if precision == "fp32" else HalfEmbedder(both), how, tmp_path / "model.onnx", 20, 8)
    assert onnx_session(tmp_path / "model.onnx", 1).get_inputs()[0].shape[1:] == [64, 64, 3]
    pixels, images = made(3, how)
    wanted = both(images).detach().numpy()
    for count in (1, 3):
        found = run_onnx(tmp_path / "model.onnx", pixels[:count], 1)
        assert found.shape == (count, 16)
        assert ((found * wanted[:count]).sum(axis=1) >= least).all()
