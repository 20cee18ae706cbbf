"""From bytes to the network's input: against Pillow and numpy step by step, and timm's own transform."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from cairn.answering.preprocess import Preprocessing, fitted, prepare


def how(**changes: object) -> Preprocessing:
    given = {
        "size": 32,
        "mean": (0.5, 0.4, 0.3),
        "std": (0.5, 0.25, 0.2),
        "interpolation": "bicubic",
        "fit": "centre",
        "short_side": 256,
        "max_megapixels": 10.0,
    }
    return Preprocessing.model_validate({**given, **changes})


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_the_array_is_channels_first_and_normalised() -> None:
    image = Image.new("RGB", (50, 40), (255, 102, 0))
    array = prepare(png(image), how())
    assert (array.shape, array.dtype) == ((3, 32, 32), np.float32)
    wanted = [(1 - 0.5) / 0.5, (0.4 - 0.4) / 0.25, (0 - 0.3) / 0.2]
    np.testing.assert_allclose(array.mean(axis=(1, 2)), wanted, atol=1e-5)


def test_squash_keeps_the_whole_photo_and_centre_its_middle() -> None:
    image = Image.new("RGB", (96, 32), "white")
    image.paste("black", (0, 0, 32, 32))
    image.paste("black", (64, 0, 96, 32))
    centre = np.asarray(fitted(image, how(fit="centre")))
    assert centre[:, 2:-2].min() > 200
    squashed = np.asarray(fitted(image, how(fit="squash")))
    assert squashed[:, :8].max() < 60
    assert squashed[:, -8:].max() < 60
    assert squashed[:, 14:18].min() > 200


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_centre_is_what_timm_does_without_a_border(interpolation: str) -> None:
    from timm.data import create_transform

    settings = how(interpolation=interpolation)
    transform = create_transform(
        (3, 32, 32), interpolation=interpolation, mean=settings.mean, std=settings.std, crop_pct=1.0
    )
    image = noise(96, 64)
    wanted = transform(image).numpy()
    # timm resizes and then crops, which rounds the pixels' places once more.
    assert np.abs(prepare(png(image), settings) - wanted).mean() < 0.05


def test_a_photo_larger_than_the_stored_size_goes_through_it() -> None:
    image = noise(800, 600)
    stored = image.resize((341, 256), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(prepare(png(image), how()), prepare(png(stored), how()))
