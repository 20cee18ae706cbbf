"""Changes of photos: size and repeatability of each, and what each does to photos made to show it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torchvision.transforms import v2

from cairn.locations import Photos
from cairn.networks.embedder import preprocessing_for
from cairn.params import AugmentParams
from cairn.training.augment import AUGMENTS, AugmentedPhotos

PARAMS = AugmentParams(name="crop", min_crop=0.4, colour_jitter=0.3, erase=0, operations=2, magnitude=9)
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8))
# Red to the right, green downwards: where a pixel came from can be read from its colour.
RAMP = Image.fromarray(
    np.stack([*np.meshgrid(np.linspace(0, 255, 256), np.linspace(0, 255, 256)), np.zeros((256, 256))], axis=2).astype(
        np.uint8
    )
)


def changed(name: str, photo: Image.Image, seed: int, size: int = 48) -> np.ndarray:
    torch.manual_seed(seed)
    out = AUGMENTS[name](size, PARAMS)(photo)
    assert isinstance(out, Image.Image)
    assert out.mode == "RGB"
    return np.asarray(out)


@pytest.mark.parametrize("name", AUGMENTS)
@pytest.mark.parametrize("shape", [(48, 48), (31, 90), (300, 40)])
def test_out_comes_a_photo_of_the_size_that_was_asked_for(name: str, shape: tuple[int, int]) -> None:
    photo = NOISE.resize(shape)
    for seed in range(3):
        assert changed(name, photo, seed, 33).shape == (33, 33, 3)


@pytest.mark.parametrize("name", AUGMENTS)
def test_one_seed_gives_one_photo_and_another_another(name: str) -> None:
    first = changed(name, NOISE, 1)
    np.testing.assert_array_equal(changed(name, NOISE, 1), first)
    assert (name == "none") == all(np.array_equal(changed(name, NOISE, seed), first) for seed in (2, 3))


def test_none_is_a_plain_resize() -> None:
    np.testing.assert_array_equal(
        changed("none", NOISE, 0), np.asarray(NOISE.resize((48, 48), Image.Resampling.BICUBIC))
    )


def test_crop_is_the_change_there_was_before() -> None:
    before = v2.Compose(
        [
            v2.RandomResizedCrop(48, scale=(0.4, 1), ratio=(0.7, 1.4), interpolation=v2.InterpolationMode.BICUBIC),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(0.3, 0.3, 0.3, 0.03),
        ]
    )
    for seed in range(5):
        torch.manual_seed(seed)
        wanted = np.asarray(before(NOISE))
        np.testing.assert_array_equal(changed("crop", NOISE, seed), wanted)


def test_resize_crop_is_a_window_of_the_photo_at_256_of_224_or_its_mirror_image() -> None:
    wide = np.asarray(NOISE.resize((256, 256), Image.Resampling.BICUBIC))
    windows, flips = set(), set()
    for seed in range(8):
        out = changed("resize_crop", NOISE, seed, 224)
        found = [
            (flip, top, left)
            for flip in (False, True)
            for top in range(33)
            for left in range(33)
            if np.array_equal((out[:, ::-1] if flip else out)[0], wide[top, left : left + 224])
        ]
        assert len(found) == 1
        flips.add(found[0][0])
        windows.add(found[0][1:])
        flip, top, left = found[0]
        np.testing.assert_array_equal(out[:, ::-1] if flip else out, wide[top : top + 224, left : left + 224])
    assert flips == {False, True}
    assert len(windows) > 4


def test_shift_moves_turns_and_zooms_as_far_as_it_says_and_never_flips() -> None:
    zooms, turns, moves = [], [], []
    for seed in range(60):
        out = changed("shift", RAMP, seed, 128).astype(float)
        middle = out[40:88, 40:88]
        right = np.gradient(middle, axis=1).mean(axis=(0, 1))  # colour a pixel to the right
        zooms.append(np.hypot(right[0], right[1]) * 128 / 255)  # 1 / the zoom
        turns.append(np.degrees(np.arctan2(right[1], right[0])))
        moves.append((out[63:65, 63:65].mean(axis=(0, 1))[:2] / 255 - 0.5) / zooms[-1])
    assert 1 / 1.2 - 0.03 < min(zooms) < 0.9
    assert 1.15 < max(zooms) < 1 / 0.8 + 0.03
    assert 5 < np.abs(turns).max() < 7.2 + 0.3
    assert 0.07 < np.abs(moves).max() < 0.115
    assert np.min(turns) < 0 < np.max(turns)


def test_shift_and_zoom_leave_no_empty_corner() -> None:
    white = Image.new("RGB", (80, 60), (255, 255, 255))
    for size in (32, 45, 64):
        for seed in range(60):
            assert changed("shift", white, seed, size).min() == 255


def test_rotate_crop_turns_further_and_changes_brightness() -> None:
    grey = Image.new("RGB", (60, 60), (100, 100, 100))
    brightness = {int(changed("rotate_crop", grey, seed)[24, 24, 0]) for seed in range(60)}
    assert 75 <= min(brightness) < 85
    assert 115 < max(brightness) <= 125
    steepest = 0.0
    for seed in range(60):
        middle = changed("rotate_crop", RAMP, seed)[16:32, 16:32].astype(float)
        right = np.gradient(middle, axis=1).mean(axis=(0, 1))
        steepest = max(steepest, abs(right[1]) / (abs(right[0]) + 1e-6))
    assert steepest > np.tan(np.radians(30))


def test_randaugment_without_operations_is_crop_without_colours() -> None:
    plain = PARAMS.model_copy(update={"colour_jitter": 0, "operations": 0})
    for seed in range(3):
        pixels = []
        for name in ("randaugment", "crop"):
            torch.manual_seed(seed)
            pixels.append(np.asarray(AUGMENTS[name](48, plain)(NOISE)))
        np.testing.assert_array_equal(*pixels)


def test_operations_and_magnitude_of_randaugment_count() -> None:
    def photo(operations: int, magnitude: int, seed: int) -> bytes:
        torch.manual_seed(seed)
        params = PARAMS.model_copy(update={"operations": operations, "magnitude": magnitude})
        return np.asarray(AUGMENTS["randaugment"](48, params)(NOISE)).tobytes()

    ways = [(0, 30), (1, 30), (2, 30), (2, 3)]
    # The most of several seeds, since an operation may happen to change nothing.
    most = max(len({photo(*way, seed) for way in ways}) for seed in range(8))
    assert most == len(ways)


def test_erasing_sets_a_part_of_the_photo_to_the_mean_colour_and_nothing_else(photos: Photos) -> None:
    how = preprocessing_for("test_resnet", 32, "centre", 64, 10.0)
    plain, erased = (
        AugmentedPhotos(photos.locations, how, PARAMS.model_copy(update={"name": "none", "erase": share}), 1)[0, 0]
        for share in (0.0, 1.0)
    )
    assert not (plain == 0).all(dim=0).any()
    gone = (erased == 0).all(dim=0)
    assert 0.01 < gone.float().mean() < 0.35
    assert torch.equal(erased[:, ~gone], plain[:, ~gone])


def test_params_out_of_range_are_refused() -> None:
    for wrong in ({"min_crop": 0}, {"colour_jitter": 1.5}, {"magnitude": 31}, {"zoom": 1}):
        with pytest.raises(ValidationError):
            AugmentParams.model_validate(PARAMS.model_dump() | wrong)
