"""How training photos are changed before they become pixels. A new way is one builder here and one line in AUGMENTS."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from cairn.answering.preprocess import Preprocessing, normalise
from cairn.locations import Location, Readers
from cairn.params import AugmentParams
from cairn.photos import decode

BICUBIC, BILINEAR = v2.InterpolationMode.BICUBIC, v2.InterpolationMode.BILINEAR

Augment = Callable[[Image.Image], Image.Image]  # RGB of any size -> RGB of size x size, by torch's random numbers


def none(size: int, params: AugmentParams) -> Augment:
    """Squashed to size, nothing else (the GLR-2021 ArcFace system)."""
    return v2.Resize((size, size), BICUBIC)  # type: ignore[no-any-return]


def crop(size: int, params: AugmentParams) -> Augment:
    """Random resized crop, flip, colours."""
    jitter = params.colour_jitter
    return v2.Compose(  # type: ignore[no-any-return]
        [
            _resized_crop(size, params.min_crop),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(jitter, jitter, jitter, jitter / 10),
        ]
    )


def resize_crop(size: int, params: AugmentParams) -> Augment:
    """Squashed to 256/224 of the size, random crop, flip (the GLDv2 triplet system)."""
    wide = round(size * 256 / 224)
    return v2.Compose(  # type: ignore[no-any-return]
        [v2.Resize((wide, wide), BICUBIC), v2.RandomCrop(size), v2.RandomHorizontalFlip()]
    )


def rotate_crop(size: int, params: AugmentParams) -> Augment:
    """Rotation up to 45 degrees, random resized crop, brightness, flip (the GLDv1 VGG-16 system)."""
    return v2.Compose(  # type: ignore[no-any-return]
        [
            v2.RandomRotation(45, BILINEAR),
            v2.RandomResizedCrop(size, interpolation=BICUBIC),
            v2.ColorJitter(brightness=0.25),
            v2.RandomHorizontalFlip(),
        ]
    )


def shift(size: int, params: AugmentParams) -> Augment:
    """Squashed; moved by up to 0.1, turned by up to 0.02 turns, zoomed by up to 0.2; no flip (the EfficientNet system).

    What comes in at the edges is the photo's mirror image, as in Keras's layers.
    """
    edge = round(0.36 * size)  # a corner comes from at most 0.34 of the size outside
    share = 0.1 * size / (size + 2 * edge)
    return v2.Compose(  # type: ignore[no-any-return]
        [
            v2.Resize((size, size), BICUBIC),
            v2.Pad(edge, padding_mode="reflect"),
            v2.RandomAffine(0.02 * 360, translate=(share, share), scale=(0.8, 1.2), interpolation=BILINEAR),
            v2.CenterCrop(size),
        ]
    )


def randaugment(size: int, params: AugmentParams) -> Augment:
    """Random resized crop, flip, then random operations (Cubuk et al. 2020, arXiv:1909.13719)."""
    return v2.Compose(  # type: ignore[no-any-return]
        [
            _resized_crop(size, params.min_crop),
            v2.RandomHorizontalFlip(),
            v2.RandAugment(params.operations, params.magnitude, interpolation=BILINEAR),
        ]
    )


def _resized_crop(size: int, min_crop: float) -> v2.RandomResizedCrop:
    return v2.RandomResizedCrop(size, scale=(min_crop, 1), ratio=(0.7, 1.4), interpolation=BICUBIC)


# name -> a change of photos, from (pixels of a side, params)
AUGMENTS: dict[str, Callable[[int, AugmentParams], Augment]] = {
    "none": none,
    "crop": crop,
    "resize_crop": resize_crop,
    "rotate_crop": rotate_crop,
    "shift": shift,
    "randaugment": randaugment,
}


class AugmentedPhotos(Dataset[Tensor]):
    """Photos as they are trained on, each changed by a seed made of (seed, epoch, position, how often it stands in the
    batch before): any number of workers gives the same pixels. Set `epoch` and `size` before each epoch.
    """

    def __init__(self, locations: Sequence[Location], how: Preprocessing, augment: AugmentParams, seed: int) -> None:
        self.locations, self.how, self.augment, self.seed = locations, how, augment, seed
        self.epoch, self.size = 0, how.size
        self._readers = Readers()
        self._erase = v2.RandomErasing(augment.erase, inplace=True)

    def __len__(self) -> int:
        return len(self.locations)

    def __getitem__(self, place: tuple[int, int]) -> Tensor:
        at, before = place
        image = decode(self._readers.read(self.locations[at]), self.how.short_side, self.how.max_megapixels)
        seed = int(np.random.SeedSequence((self.seed, self.epoch, at, before)).generate_state(1)[0])
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed prepares for GPUs too, a tenth of all this
            changed = _change(self.size, self.augment)(image)
            erased: Tensor = self._erase(torch.from_numpy(normalise(changed, self.how)))
            return erased


@functools.cache
def _change(size: int, augment: AugmentParams) -> Augment:
    return AUGMENTS[augment.name](size, augment)
