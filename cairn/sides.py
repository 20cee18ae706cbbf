"""The cleaned manifest together with its split: which photos each later stage works on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cairn.embedding import locations
from cairn.manifest import as_number, read_images
from cairn.retrieval.neighbours import NONE
from cairn.stage import CLEAN, RAW, SPLIT, StageError
from cairn.training.loop import Photos
from cairn.training.photos import Location

DATABASE = ("train", "index")  # the sides whose landmark photos queries are compared with
QUERIES = ("validation", "test")


@dataclass(frozen=True)
class Sides:
    """Row by row in manifest order (by image id).

    images: the cleaned manifest
    side: str [rows], train, validation, index, test or suspect; suspects are embedded, and used for nothing else
    landmark_ids: int64 [rows], NONE for a distractor
    """

    images: pa.Table
    side: NDArray[np.str_]
    landmark_ids: NDArray[np.int64]

    def rows(self, *sides: str, landmarks: bool = True, distractors: bool = False) -> NDArray[np.int64]:
        """Row numbers of the landmark photos, the distractors, or both, on the named sides."""
        wanted = np.isin(self.side, sides)
        shown = self.landmark_ids != NONE
        return np.flatnonzero(wanted & ((shown & landmarks) | (~shown & distractors)))


def read_sides() -> Sides:
    """Raises StageError if clean and split do not belong together."""
    images, split = read_images(CLEAN), pq.read_table(SPLIT).sort_by("image_id")
    if not images["image_id"].equals(split["image_id"]):
        raise StageError(f"{SPLIT} and {CLEAN}/images.parquet name different photos; run `dvc repro split`")
    landmark_ids = pc.fill_null(images["landmark_id"], NONE).to_numpy().astype(np.int64)
    return Sides(images, np.array(split["side"].to_pylist()), landmark_ids)


def image_numbers(images: pa.Table) -> NDArray[np.int64]:
    """The image ids as the numbers that FAISS stores, int64 [rows]."""
    return np.fromiter((as_number(i) for i in images["image_id"].to_pylist()), np.int64, images.num_rows)


def trained_landmarks(sides: Sides) -> NDArray[np.int64]:
    """The landmarks of the train side in the order of their class numbers, int64 [classes]."""
    return np.unique(sides.landmark_ids[sides.rows("train")])


def training_photos(sides: Sides) -> tuple[Photos, Photos]:
    """The train side with class numbers 0..classes-1, and the validation side with those and -1 for distractors.

    Raises StageError if the train side has fewer than two landmarks.
    """
    places = locations(CLEAN, sides.images)
    rows = sides.rows("train")
    known = trained_landmarks(sides)
    if len(known) < 2:
        raise StageError(
            f"the train side holds {len(known)} landmark(s), at least 2 are needed; see reports/split.json"
        )
    checked = sides.rows("validation", distractors=True)
    labels = sides.landmark_ids[checked]
    checked = checked[(labels == NONE) | np.isin(labels, known)]
    labels = sides.landmark_ids[checked]
    classes = np.where(labels == NONE, -1, np.searchsorted(known, labels))
    return (
        Photos([places[i] for i in rows], np.searchsorted(known, sides.landmark_ids[rows])),
        Photos([places[i] for i in checked], classes.astype(np.int64)),
    )


def embedding_locations(sides: Sides) -> list[Location]:
    """Where to read each photo to embed it: queries from the raw shards, as a server gets them, the rest cleaned."""
    raw = read_images(RAW)
    raw = raw.filter(pc.is_in(raw["image_id"], value_set=sides.images["image_id"].combine_chunks()))
    query = np.isin(sides.side, QUERIES)
    pairs = zip(query, locations(RAW, raw), locations(CLEAN, sides.images), strict=True)
    return [from_raw if is_query else cleaned for is_query, from_raw, cleaned in pairs]
