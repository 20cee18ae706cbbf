"""Photos to network inputs, several at once: the work of the Triton model `preprocess`."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cairn.answering.preprocess import Preprocessing, pixels
from cairn.files import read_form
from cairn.photos import DecodeError
from cairn.serving.threads import threads

PREPROCESS_FILE = "preprocess.json"
MAX_PHOTO_MB = 64  # refused before decoding


def preprocessing_of(folder: Path) -> Preprocessing:
    """What preprocess.json in `folder` says. Raises cairn.files.FormError if it is missing or wrong."""
    return read_form(folder / PREPROCESS_FILE, Preprocessing, "run `make repro`, which exports it")


class Preparer:
    """Prepares photos as preprocess.json says."""

    def __init__(self, folder: Path) -> None:
        """Raises cairn.files.FormError if preprocess.json is missing or wrong."""
        self.how = preprocessing_of(folder)
        self._pool = ThreadPoolExecutor(threads(), thread_name_prefix="prepare")  # Pillow decodes outside the GIL

    def __call__(self, photos: Sequence[bytes]) -> list[NDArray[np.uint8] | DecodeError]:
        """For each photo the array that `pixels` gives, or why it cannot be decoded."""
        if len(photos) == 1:  # the usual request; handing it to another thread costs more than it gains
            return [self._one(photos[0])]
        return list(self._pool.map(self._one, photos))

    def _one(self, photo: bytes) -> NDArray[np.uint8] | DecodeError:
        if len(photo) > MAX_PHOTO_MB * 1e6:
            return DecodeError(f"{len(photo) / 1e6:.1f} MB, over the limit of {MAX_PHOTO_MB} MB")
        try:
            return pixels(photo, self.how)
        except DecodeError as error:
            return DecodeError(str(error))  # without the traceback, which holds the photo and what was decoded of it
