"""Images to unit vectors: a batch is worked on in parts, and no part, order or number of threads may show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cairn.answering.preprocess import Preprocessing
from cairn.export.onnx import write_onnx
from cairn.serving.embedding import MODEL_FILE, OUTPUT, PART, OnnxEmbedder
from cairn.serving.threads import VARIABLE

SIZE, DIMENSIONS, MOST = 16, 5, 4 * PART
HOW = Preprocessing(
    size=SIZE,
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.3, 0.25),
    interpolation="bilinear",
    fit="squash",
    short_side=SIZE,
    max_megapixels=1,
)


class Means(nn.Module):
    """A network small enough to be computed by hand: the pixels' weighted sums, as a unit vector."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weights = nn.Parameter(torch.randn(3 * SIZE * SIZE, DIMENSIONS))

    def forward(self, images: Tensor) -> Tensor:
        """Images float32 [batch, 3, SIZE, SIZE] -> float32 [batch, DIMENSIONS]."""
        return nn.functional.normalize(images.flatten(1) @ self.weights, dim=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("embed")
    write_onnx(Means(), HOW, made / MODEL_FILE, 20, MOST)
    return made


def images(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.mark.parametrize("threads", ["1", "2", "3"])
@pytest.mark.parametrize("count", [1, 2, PART, PART + 1, MOST])
def test_each_image_has_its_own_vector_in_a_batch_of_any_size(
    folder: Path, threads: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, threads)
    batch = images(count)
    normalised = ((batch / 255 - np.array(HOW.mean)) / np.array(HOW.std)).transpose(0, 3, 1, 2)
    sums = normalised.reshape(count, -1) @ Means().weights.detach().double().numpy()
    got = OnnxEmbedder(folder)(batch)[OUTPUT]
    assert got.shape == (count, DIMENSIONS)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, sums / np.linalg.norm(sums, axis=1, keepdims=True), atol=1e-5)


def test_images_of_another_size_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=rf"images are \[8, 8, 3\], the network takes \[{SIZE}, {SIZE}, 3\]"):
        OnnxEmbedder(folder)(np.zeros((2, 8, 8, 3), dtype=np.uint8))
