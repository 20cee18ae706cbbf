"""The classifier is the head: the same probabilities as its own, but for the length of features of a linear one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cairn.locations import Photos
from cairn.losses import LOSSES
from cairn.losses.params import ArcFaceParams, SoftmaxParams, SubCenterParams, TripletParams
from cairn.networks.embedder import Embedder, make_embedder
from cairn.params import load_params
from cairn.retrieval.rerankers import classifier
from cairn.retrieval.rerankers.classifier import LinearClassifier
from cairn.training.classifier import classifier_of, mean_length
from cairn.training.loop import Trained, train
from cairn.training.photos import plain_batches

SIZES, IDS = np.array([3, 9, 5]), np.array([4, 7, 11])
PARAMS = {
    "arcface": ArcFaceParams(scale=16.0, margin=0.3),
    "subcenter": SubCenterParams(scale=16.0, margin_low=0.1, margin_high=0.4, centres=3),
}


def embedder() -> Embedder:
    torch.manual_seed(0)
    return make_embedder("test_resnet", "none", "auto", "linear", 6, 32, 64, 10.0, "centre").eval()


@pytest.mark.parametrize("loss", PARAMS)
def test_probabilities_are_the_heads(loss: str, photos: Photos) -> None:
    torch.manual_seed(0)
    head = LOSSES[loss](6, SIZES, PARAMS[loss])
    classifier = classifier_of(Trained(embedder(), head, [], 1), photos, IDS)
    assert classifier is not None
    vectors = torch.nn.functional.normalize(torch.randn(8, 6), dim=1)
    wanted = torch.softmax(16 * head.scores(vectors), dim=1).detach().numpy()
    np.testing.assert_allclose(classifier(vectors.numpy()), wanted, atol=1e-5)
    assert classifier.landmark_ids.tolist() == IDS.tolist()


@torch.no_grad()
def test_a_linear_head_sees_every_feature_at_the_mean_length(photos: Photos) -> None:
    torch.manual_seed(0)
    network, head = embedder(), LOSSES["softmax"](6, SIZES, SoftmaxParams(label_smoothing=0))
    classifier = classifier_of(Trained(network, head, [], 1), photos, IDS)
    assert isinstance(classifier, LinearClassifier)
    loader = plain_batches(photos.locations, network.config.preprocessing, 7)
    features = torch.cat([network.features(batch) for batch in loader])
    lengths = features.norm(dim=1)
    assert classifier.length == pytest.approx(lengths.mean().item(), rel=1e-5)
    assert mean_length(network, photos) == classifier.length
    units = features / lengths[:, None]
    wanted = head.scores(classifier.length * units).numpy()
    np.testing.assert_allclose(classifier(units.numpy()), wanted, atol=1e-5)


def test_a_trained_linear_head_answers_the_same_from_unit_vectors(photos: Photos, tmp_path: Path) -> None:
    params = load_params(Path(__file__).parents[2] / "params.yaml").train
    changes = {"epochs": 4, "batch_size": 8, "image_size": 32, "warmup_epochs": 0.0}
    chosen = params.model_copy(update={"loss": "softmax", "scratch": params.scratch.model_copy(update=changes)})
    torch.set_num_threads(1)
    trained = train(embedder(), photos, photos, chosen, "fp32", 5, tmp_path, lambda row: None)
    classifier = classifier_of(trained, photos, IDS)
    assert trained.head is not None
    assert classifier is not None
    batch = next(iter(plain_batches(photos.locations, trained.embedder.config.preprocessing, 24)))
    with torch.no_grad():
        vectors = trained.embedder(batch).numpy()
        own = trained.head.scores(trained.embedder.features(batch)).numpy()
    assert (classifier(vectors).argmax(axis=1) == own.argmax(axis=1)).mean() >= 0.95
    assert np.abs(classifier(vectors) - own).mean() < 0.05


@pytest.mark.parametrize("loss", [*PARAMS, "softmax"])
def test_a_large_one_is_stored_in_half_and_answers_alike(
    loss: str, photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    head = LOSSES[loss](6, SIZES, PARAMS.get(loss, SoftmaxParams(label_smoothing=0)))
    whole = classifier_of(Trained(embedder(), head, [], 1), photos, IDS)
    assert whole is not None
    vectors = torch.nn.functional.normalize(torch.randn(8, 6), dim=1).numpy()
    wanted = whole(vectors)
    monkeypatch.setattr(classifier, "HALVED", 10)
    monkeypatch.setattr(classifier, "CLASS_BLOCK", 2)
    whole.save(tmp_path / "half.npz")
    with np.load(tmp_path / "half.npz") as parts:
        assert parts["weights"].dtype == np.float16
    np.testing.assert_allclose(classifier.open_classifier(tmp_path / "half.npz")(vectors), wanted, atol=5e-3)


def test_a_head_without_a_classifier_and_no_head_give_none(photos: Photos) -> None:
    triplet = LOSSES["triplet"](6, SIZES, TripletParams(memory=0.5))
    assert classifier_of(Trained(embedder(), triplet, [], 1), photos, IDS) is None
    assert classifier_of(Trained(embedder(), None, [], 0), photos, IDS) is None
