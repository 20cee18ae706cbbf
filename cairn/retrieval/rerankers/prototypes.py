"""One unit vector a landmark: the centre that a classifier of cosines learnt of it, or else the mean of its photos.

Prototypes are those of Snell et al. 2017, arXiv:1703.05175. A landmark that only the index knows so has its say beside
the trained ones, and one with a single photo loses nothing by having no mean to speak of.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cairn.retrieval.rerankers.classifier import CosineClassifier
from cairn.retrieval.vectors import ROWS, UnitVectors

PROTOTYPES_FILE = "prototypes.npz"
LANDMARKS = 65536  # that are summed for at a time
PAIRS = 8192  # different landmarks from which on each cosine is worked out by itself


@dataclass(frozen=True)
class Prototypes:
    """Checked when made.

    landmark_ids: int64 [landmarks], rising
    vectors: unit vectors, float32 [landmarks, dimensions]
    photos: int64 [landmarks], how many photos each is the mean of; 0 for the classifier's own
    """

    landmark_ids: NDArray[np.int64]
    vectors: NDArray[np.float32]
    photos: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Raises ValueError if ids do not rise, vectors are not float32 unit vectors, or a count is under 0."""
        ids, vectors = self.landmark_ids, self.vectors
        if ids.ndim != 1 or (np.diff(ids) <= 0).any():
            raise ValueError("prototypes' landmark ids must rise")
        if vectors.ndim != 2 or len(vectors) != len(ids) or vectors.dtype != np.float32:
            raise ValueError(f"prototypes need float32 vectors [{len(ids)}, d], not {vectors.dtype} {vectors.shape}")
        if not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3):
            raise ValueError("prototypes must be unit vectors")
        if self.photos.shape != ids.shape or self.photos.dtype != np.int64 or (self.photos < 0).any():
            raise ValueError(f"prototypes need a count of photos for each of {len(ids)} landmarks")

    def likeness(
        self, queries: NDArray[np.float32], landmark_ids: NDArray[np.int64], within: float
    ) -> NDArray[np.float32]:
        """Cosine of each query, unit vectors [n, dimensions], to the prototypes of its own landmarks, int64 [n, k].

        Photos of one landmark have a mean cosine s, `within`, of each other. The mean of m of them has the expected
        square length s + (1 - s) / m, of which only s is the landmark's; made a unit vector it loses the more, the
        fewer they are. So the cosine to such a mean is multiplied by sqrt(1 + (1 - s) / (s m)). With s 1 it is not.

        Float32 [n, k]; 0 where a landmark has no prototype.
        """
        asked, place = np.unique(landmark_ids, return_inverse=True)
        at = np.searchsorted(self.landmark_ids, asked).clip(0, len(self.landmark_ids) - 1)
        known = self.landmark_ids[at] == asked
        photos = self.photos[at]
        lost = np.where(photos > 0, (1 - within) / (within * np.maximum(photos, 1)), 0)
        factors = np.where(known, np.sqrt(1 + lost), 0).astype(np.float32)
        place = place.reshape(landmark_ids.shape)
        if len(asked) > PAIRS:  # most of all cosines would not be looked at
            cosines = np.einsum("qd,qkd->qk", queries, self.vectors[at[place]])
            return np.asarray(cosines * factors[place], dtype=np.float32)
        cosines = queries @ self.vectors[at].T * factors
        return np.take_along_axis(cosines, place, 1)

    def changed(
        self, vectors: NDArray[np.float32], landmark_ids: NDArray[np.int64], touched: NDArray[np.int64]
    ) -> Prototypes:
        """After photos came or went: of the landmarks `touched`, int64 [any], those of their photos of now.

        `vectors` and `landmark_ids` are all the photos that these landmarks have now, as in `prototypes_of`. The
        classifier's own prototypes stay, unless no photo is left.
        """
        left = np.unique(landmark_ids)
        own = self.landmark_ids[self.photos == 0]
        stays = ~np.isin(self.landmark_ids, touched) | (
            np.isin(self.landmark_ids, own) & np.isin(self.landmark_ids, left)
        )
        meant = ~np.isin(landmark_ids, own)
        made = prototypes_of(vectors[meant], landmark_ids[meant], None)
        ids = np.concatenate([self.landmark_ids[stays], made.landmark_ids])
        order = np.argsort(ids, kind="stable")
        return Prototypes(
            ids[order],
            np.concatenate([self.vectors[stays], made.vectors])[order],
            np.concatenate([self.photos[stays], made.photos])[order],
        )

    def save(self, path: Path) -> None:
        """Write them; the same prototypes give the same bytes."""
        with path.open("wb") as file:  # given a path, numpy would add .npz to some
            np.savez(file, landmark_ids=self.landmark_ids, vectors=self.vectors, photos=self.photos)

    @classmethod
    def open(cls, path: Path) -> Prototypes:
        """What `save` wrote. Raises FileNotFoundError, or ValueError if it is something else."""
        with np.load(path, allow_pickle=False) as parts:
            missing = {"landmark_ids", "vectors", "photos"} - set(parts.files)
            if missing:
                raise ValueError(f"{path}: no prototypes, {sorted(missing)} missing")
            return cls(parts["landmark_ids"], parts["vectors"], parts["photos"])


def prototypes_of(
    vectors: UnitVectors,
    landmark_ids: NDArray[np.int64],
    classifier: CosineClassifier | None,
    rows: NDArray[np.int64] | None = None,
) -> Prototypes:
    """Of the index's photos: unit vectors float32 [photos, dimensions] and what they show, int64 [photos].

    rows: where among `vectors` those of the photos are; none: they are as many, in the same order. Vectors are read
    part by part, and those of landmarks that the classifier knows are not. Of several centres of a class, their mean.
    """
    landmarks, place, photos = np.unique(landmark_ids, return_inverse=True, return_counts=True)
    rows = np.arange(len(landmark_ids)) if rows is None else rows
    known = np.zeros(0, dtype=np.int64) if classifier is None else classifier.landmark_ids
    trained = np.isin(landmarks, known)
    made = np.empty((len(landmarks), vectors.shape[1]), dtype=np.float32)
    for start in range(0, len(landmarks), LANDMARKS):
        some = slice(start, start + LANDMARKS)
        summed = np.flatnonzero(~trained[place] & (place >= start) & (place < start + LANDMARKS))
        sums = _sums(vectors, rows[summed], place[summed] - start, len(landmarks[some]))
        if classifier is not None:
            at = np.searchsorted(known, landmarks[some][trained[some]])
            sums[trained[some]] = classifier.weights[at].sum(axis=1)
        made[some] = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    photos[trained] = 0
    return Prototypes(landmarks, made, photos.astype(np.int64))


def _sums(vectors: UnitVectors, rows: NDArray[np.int64], place: NDArray[np.int64], places: int) -> NDArray[np.float64]:
    """The sum at each of so many places, float64 [places, dimensions], of the vectors at `rows`, in their order."""
    sums = np.zeros((places, vectors.shape[1]))
    for start in range(0, len(rows), ROWS):
        some = slice(start, start + ROWS)
        for at, vector in zip(place[some].tolist(), vectors[rows[some]], strict=True):
            sums[at] += vector  # np.add.at does the same more slowly
    return sums
