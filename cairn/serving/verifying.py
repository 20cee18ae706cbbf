"""Do a photo and its neighbours show one thing? Local features compared: the work of the Triton model `verify`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cairn.locations import Location
from cairn.photos import DecodeError, decode
from cairn.retrieval.local import EXTRACTORS
from cairn.retrieval.local.features import Features
from cairn.retrieval.local.pixels import reduced
from cairn.retrieval.local.remembered import remembered
from cairn.retrieval.rerankers.local_features import LocalFeaturesParams, fitted
from cairn.serving.preparing import Preparer
from cairn.serving.showing import IndexPhotos, PhotosUnavailable
from cairn.serving.threads import threads

CHECKED = 5  # neighbours compared where the request says nothing
MOST_CHECKED = 10  # as many as an answer shows
COMPARED = LocalFeaturesParams()  # as `evaluate` compares by default, so that inliers mean the same
NOT_COMPARED = -1
OUTPUTS = ("inliers", "matches")  # of `verify`, beside those of `landmark`
KEPT_BYTES = 2**28  # of index photos' features: some 500 photos of 1000 features


class CheckError(ValueError):
    """A number of neighbours to compare that cannot be."""


def checked(parameters: Mapping[str, Any]) -> int:
    """How many neighbours a request wants compared: its param `check`. Raises CheckError."""
    check = parameters.get("check", CHECKED)
    if type(check) is not int or not 1 <= check <= MOST_CHECKED:
        raise CheckError(f"check = {check!r}: how many neighbours to compare, a whole number from 1 to {MOST_CHECKED}")
    return check


@dataclass(frozen=True)
class Seen:
    """A photo's local features, and the width and height in pixels of the picture they were found in."""

    features: Features
    size: NDArray[np.float32]

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return self.features.nbytes + self.size.nbytes

    def shares(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Points [n, 2] in pixels, (0, 0) the middle of the upper left one, as shares of width and height."""
        return (points + np.float32(0.5)) / self.size


class Verifier:
    """Compares photos with those of the index, whose features it remembers."""

    def __init__(self, photos: IndexPhotos, preprocess: Path) -> None:
        """`preprocess` is the folder with preprocess.json, which says at which size photos are decoded.

        Raises cairn.files.FormError if it is missing or wrong.
        """
        import cv2  # slow to import, and `photo` imports this module too

        cv2.setNumThreads(threads())
        self._photos, self._prepare = photos, Preparer(preprocess)
        self._extract = EXTRACTORS[COMPARED.extractor](COMPARED.max_features, COMPARED.min_strength)
        self._seen_in_index = remembered(self._look_at, KEPT_BYTES)

    @classmethod
    def of_server(cls, repository: Path) -> Verifier:
        """With the photos that this server was given, decoded as the repository's `preprocess` does."""
        return cls(IndexPhotos.of_server(repository), repository / "preprocess" / "1")

    def check(self, photo: bytes) -> None:
        """Raises DecodeError, with the reason that `preprocess` gives, if it refuses the photo."""
        (prepared,) = self._prepare([photo])
        if isinstance(prepared, DecodeError):
            raise prepared

    def __call__(self, photo: bytes, neighbours: Sequence[str], version: int, check: int) -> dict[str, NDArray[Any]]:
        """Compare a photo with the first `check` of its neighbours: image ids, empty behind the last, of an index.

        inliers int32 [k]: features that fit together, for each neighbour; NOT_COMPARED where that was not asked for
        matches float32 [m, 5]: for each of them the neighbour's position, x and y in the photo, x and y in the
        neighbour, as shares of width and height of the upright photos

        Raises DecodeError, or as IndexPhotos.
        """
        counts = np.full(len(neighbours), NOT_COMPARED, dtype=np.int32)
        rows = [np.zeros((0, 5), dtype=np.float32)]
        query = self._seen(photo)
        for position, image_id in enumerate(neighbours[:check]):
            if image_id:
                other = self._seen_in_index(self._photos.find(image_id, version))
                fit = fitted(COMPARED, query.features, other.features)
                counts[position] = len(fit.query)
                where = np.full((len(fit.query), 1), position, dtype=np.float32)
                rows.append(np.hstack([where, query.shares(fit.query), other.shares(fit.photo)]))
        return {"inliers": counts, "matches": np.concatenate(rows)}

    def _look_at(self, place: Location) -> Seen:
        try:
            return self._seen(self._photos.read(place))
        except DecodeError as error:
            raise PhotosUnavailable(
                f"{place.root / place.shard}: no photo at {place.offset} ({error}); the index is of other shards, "
                "run `make repro` and start the server again"
            ) from error

    def _seen(self, photo: bytes) -> Seen:
        how = self._prepare.how
        image = np.asarray(decode(photo, how.short_side, how.max_megapixels))
        small = reduced(image, COMPARED.size)
        height, width = small.shape[:2]
        return Seen(self._extract(small), np.array([width, height], dtype=np.float32))
