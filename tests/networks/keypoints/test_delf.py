"""Dense features of small untrained networks: where they lie, which are kept, and that a photo seen askew fits."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from retrieval.local.rendered import homography, moved, picture
from torch import nn

from cairn.networks.attention import AttentionBackbone
from cairn.networks.embedder import Embedder, make_embedder, save_embedder
from cairn.networks.keypoints import EXTRACTORS
from cairn.networks.keypoints.delf import Dense, cells, delf, dense_of
from cairn.networks.params import AttentionParams
from cairn.retrieval.local.features import Extractor
from cairn.retrieval.local.matching import inliers, matches
from cairn.retrieval.rerankers.local_features import SCALES, LocalFeaturesParams

SIZE = 64
NETWORKS = ["test_resnet", "test_vit"]


@cache
def embedder(backbone: str, attention: bool = False) -> Embedder:
    torch.manual_seed(0)
    branch = {"attention": AttentionParams(width=8), "classes": 4} if attention else {}
    made = make_embedder(backbone, "none", "auto", "none", None, SIZE, 256, 50.0, "centre", **branch)
    made.train()
    with torch.no_grad():
        made(torch.randn(8, 3, SIZE, SIZE))  # so that batch norms have statistics of their own
    return made.eval()


def patchwise(tile: int | None) -> Dense:
    """A network whose features are the mean colours of patches of 8 x 8 pixels."""
    backbone = nn.Module()
    backbone.weight = nn.Parameter(torch.zeros(1))
    backbone.forward_features = lambda images: nn.functional.avg_pool2d(images, 8)
    return Dense(backbone, 0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), tile)


def spot(x: int, y: int, width: int = 150, height: int = 100) -> NDArray[np.uint8]:
    """Black but for a white square of 8 pixels from (x, y) on."""
    image = np.zeros((height, width, 3), np.uint8)
    image[y : y + 8, x : x + 8] = 255
    return image


@pytest.mark.parametrize("tile", [None, 32, 64])
@pytest.mark.parametrize(("x", "y"), [(0, 0), (40, 64), (136, 88)])
def test_a_cell_lies_where_its_pixels_are(tile: int | None, x: int, y: int) -> None:
    found = cells(patchwise(tile), spot(x, y), 1.0)
    assert len(found.points) == 12 * 19  # the last cells reach over the edge, but their middles are inside
    assert found.points[found.strengths.argmax()].tolist() == [x + 3.5, y + 3.5]
    assert found.strengths.max() == pytest.approx(3**0.5)
    assert (found.strengths > 1e-6).sum() == 1


@pytest.mark.parametrize("tile", [None, 64])
@pytest.mark.parametrize("scale", [0.5, 1.41, 2.0])
def test_cells_of_other_scales_lie_there_too(tile: int | None, scale: float) -> None:
    found = cells(patchwise(tile), spot(64, 48), scale)
    middle = np.average(found.points, axis=0, weights=found.strengths)
    np.testing.assert_allclose(middle, [67.5, 51.5], atol=4 / scale)  # half a cell
    assert (found.points >= -0.5).all()
    assert (found.points <= [149.5, 99.5]).all()


def test_tiles_are_seen_as_the_network_sees_a_photo() -> None:
    """Each tile of a ViT is described just as if it were alone."""
    image = np.random.default_rng(0).integers(0, 256, (2 * SIZE, 2 * SIZE, 3), dtype=np.uint8)
    dense = dense_of(embedder("test_vit"))
    assert dense.tile == SIZE
    every = cells(dense, image, 1.0)
    alone = cells(dense, image[SIZE:, :SIZE], 1.0)
    side = round(len(alone.points) ** 0.5)
    lower_left = every.descriptors.reshape(2 * side, 2 * side, -1)[side:, :side].reshape(len(alone.points), -1)
    np.testing.assert_allclose(lower_left, alone.descriptors, atol=1e-5)


@pytest.mark.parametrize("backbone", NETWORKS)
def test_strengths_are_lengths_or_the_attention(backbone: str) -> None:
    image = picture(0)[:SIZE, :SIZE]
    plain = cells(dense_of(embedder(backbone)), image, 1.0)
    np.testing.assert_allclose(plain.strengths, np.linalg.norm(plain.descriptors, axis=1), rtol=1e-5)
    branch = embedder(backbone, attention=True)
    watched = cells(dense_of(branch), image, 1.0)
    network, config = branch.branches[0].backbone, branch.config.branches[0]
    assert isinstance(network, AttentionBackbone)
    pixels = (image / 255 - np.array(config.mean)) / np.array(config.std)
    with torch.no_grad():
        wanted = network.branches(torch.tensor(pixels).permute(2, 0, 1)[None].float()).attention
    np.testing.assert_allclose(watched.strengths, wanted.flatten().numpy(), atol=1e-5)


def extractor(backbone: str, scales: tuple[float, ...] = (0.7071, 1.0, 1.4142)) -> Extractor:
    return delf(dense_of(embedder(backbone)), scales, 400, 0.0)


@pytest.mark.parametrize("backbone", NETWORKS)
def test_features_are_as_promised_and_the_same_each_time(backbone: str) -> None:
    image = picture(0)[:, :200]
    found, again = (extractor(backbone)(image) for _ in range(2))
    assert found.points.tobytes() == again.points.tobytes()
    assert found.descriptors.tobytes() == again.descriptors.tobytes()
    assert 0 < len(found) <= 400
    np.testing.assert_allclose(np.linalg.norm(found.descriptors, axis=1), 1, atol=1e-5)
    assert (found.points >= -0.5).all()
    assert (found.points <= np.array([200, image.shape[0]]) - 0.5).all()


def test_the_strongest_are_kept() -> None:
    dense, image = dense_of(embedder("test_resnet")), picture(0)
    every = cells(dense, image, 1.0)
    order = np.sort(every.strengths)[::-1]
    found = delf(dense, (1.0,), 10, 0.0)(image)
    assert len(found) == 10
    where = {tuple(point) for point in every.points[every.strengths >= order[9]].tolist()}
    assert {tuple(point) for point in found.points.tolist()} == where
    assert len(delf(dense, (1.0,), 1000, float(order[4]))(image)) == 4


@pytest.mark.parametrize("shape", [(1, 1), (3, 300), (40, 40)])
def test_photos_too_small_for_a_cell_or_so(shape: tuple[int, int]) -> None:
    found = delf(dense_of(embedder("test_resnet")), SCALES, 100, 0.0)(np.full((*shape, 3), 90, np.uint8))
    assert found.descriptors.shape[1] == embedder("test_resnet").branches[0].width


def texture(seed: int) -> NDArray[np.uint8]:
    """A smooth random picture, 256 x 256: untrained networks tell its places apart, and hardly those of a rendering."""
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (256, 256), interpolation=cv2.INTER_CUBIC))


@pytest.mark.parametrize("backbone", NETWORKS)
def test_points_move_as_the_picture_does_and_another_picture_does_not_fit(backbone: str) -> None:
    extract, image = extractor(backbone), texture(0)

    def fit(other: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        a, b = extract(image), extract(other)
        pairs = matches(a, b, True, None, 0.8)
        kept = pairs[inliers(a.points[pairs[:, 0]], b.points[pairs[:, 1]], "affine", 10, 1000, 0)]
        return a.points[kept[:, 0]], b.points[kept[:, 1]]

    chance = len(fit(texture(1))[0])
    reduced = np.diag([2**-0.5, 2**-0.5, 1])  # by a step of the pyramid
    for movement, within in ((reduced, 0.5), (homography(image), 8.0)):
        here, there = fit(cv2.warpPerspective(image, movement, (256, 256), borderValue=(90, 90, 90)))
        assert len(here) > 2 * chance
        assert np.median(np.linalg.norm(moved(here, movement) - there, axis=1)) < within


def test_built_from_params_with_descriptors_of_fewer_dimensions(tmp_path: Path) -> None:
    save_embedder(embedder("test_resnet"), tmp_path)
    params = LocalFeaturesParams(extractor="delf", scales=(1.0,), max_features=50, size=160, dimensions=8)
    extract = EXTRACTORS["delf"](params, tmp_path, (picture(landmark) for landmark in range(3)))
    found = extract(picture(3))
    assert (len(found), found.descriptors.shape[1]) == (50, 8)
    plain = EXTRACTORS["delf"](params.model_copy(update={"dimensions": None}), tmp_path, ())
    assert np.array_equal(plain(picture(3)).points, found.points)
    with pytest.raises(ValueError, match=r"local_features\.dimensions = 8"):
        EXTRACTORS["delf"](params, tmp_path, [picture(0)[:32, :32]])
