"""ALIKED: what it refuses; with real weights and photos, as many inliers as are known of it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from kornia.feature import ALIKED
from numpy.typing import NDArray
from retrieval.local.rendered import askew, homography, moved
from safetensors.torch import load_file, save_file

from cairn.networks.backbones import BackboneError
from cairn.networks.keypoints import EXTRACTORS
from cairn.networks.keypoints.aliked import GRID, MODEL, aliked, load_aliked
from cairn.photos import decode
from cairn.retrieval.local.features import Features
from cairn.retrieval.local.matching import inliers, matches
from cairn.retrieval.rerankers.local_features import LocalFeaturesParams


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random ones, in a file without the buffer that the network makes itself."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "aliked.safetensors"
    save_file({name: tensor for name, tensor in ALIKED(MODEL).state_dict().items() if name != GRID}, path)
    return path


def test_features_are_as_promised_and_the_same_each_time(weights: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 97, 3), dtype=np.uint8)
    params = LocalFeaturesParams(extractor="aliked", weights=str(weights), max_features=40)
    found, again = (EXTRACTORS["aliked"](params, Path("unused"), ())(image) for _ in range(2))
    assert found.descriptors.shape == (40, 128)
    np.testing.assert_allclose(np.linalg.norm(found.descriptors, axis=1), 1, atol=1e-5)
    assert (found.points >= 0).all()
    assert (found.points <= [96, 63]).all()
    assert found.points.tobytes() == again.points.tobytes()
    assert found.descriptors.tobytes() == again.descriptors.tobytes()


def test_strengths_are_scores(weights: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    network = load_aliked(str(weights), 30)
    pixels = torch.tensor(image).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        scores = network(pixels)[0].keypoint_scores.sort(descending=True).values
    assert len(aliked(network, float(scores[12]))(image)) == 12
    assert len(aliked(network, 1.0)(image)) == 0


@pytest.mark.parametrize("shape", [(1, 1), (20, 300), (64, 64)])
def test_small_and_empty_pictures_have_few_or_none(weights: Path, shape: tuple[int, int]) -> None:
    found = aliked(load_aliked(str(weights), 30), 0.0)(np.full((*shape, 3), 128, np.uint8))
    assert len(found) <= 30
    assert found.descriptors.shape[1] == 128
    if min(shape) < 32:
        assert len(found) == 0


def test_weights_that_cannot_be_had(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(BackboneError, match=r"local_features: weights .*nowhere.* no such file"):
        load_aliked("nowhere.safetensors", 10)
    state = load_file(weights)
    save_file(
        {name: tensor for name, tensor in state.items() if name != "conv1.weight"}, tmp_path / "fewer.safetensors"
    )
    save_file({**state, "more": torch.zeros(1)}, tmp_path / "more.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    torch.save(state, tmp_path / "pickled.safetensors")
    for name in ("fewer", "more", "text", "pickled"):
        with pytest.raises(BackboneError, match="are none of aliked-n16"):
            load_aliked(str(tmp_path / f"{name}.safetensors"), 10)


@pytest.mark.shared_photos
@pytest.mark.skipif(
    not (os.environ.get("CAIRN_PHOTOS") and os.environ.get("CAIRN_WEIGHTS")),
    reason="CAIRN_PHOTOS and CAIRN_WEIGHTS name no real photos and weights",
)
def test_a_real_photo_seen_askew_fits_and_another_does_not() -> None:
    """Known of these weights: 411 inliers on an easy pair, 74 on a hard one, at most 30 by chance."""
    folders = sorted(path for path in (Path(os.environ["CAIRN_PHOTOS"]) / "landmarks").iterdir() if path.is_dir())
    photos = [
        np.asarray(decode(sorted(folder.iterdir())[0].read_bytes(), 224, max_megapixels=100.0))
        for folder in folders[:3]
    ]
    extract = aliked(load_aliked(str(Path(os.environ["CAIRN_WEIGHTS"]) / "aliked-n16.safetensors"), 1000), 0.0)
    described = [extract(photo) for photo in photos]
    for number, photo in enumerate(photos):
        here, there = fit(described[number], extract(askew(photo)))
        assert len(here) > 150
        assert np.median(np.linalg.norm(moved(here, homography(photo)) - there, axis=1)) < 1
        assert len(fit(described[number], described[number - 1])[0]) <= 30


def fit(a: Features, b: Features) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    pairs = matches(a, b, True, None, None)
    kept = pairs[inliers(a.points[pairs[:, 0]], b.points[pairs[:, 1]], "homography", 4, 2000, 0)]
    return a.points[kept[:, 0]], b.points[kept[:, 1]]
