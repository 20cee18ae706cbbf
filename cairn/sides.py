"""The cleaned manifest together with its split: which photos each later stage works on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cairn.locations import Location, Photos, locations
from cairn.manifest import NONE, as_numbers, by_image_id, labels_of, read_images, whole
from cairn.stage import CLEAN, RAW, SPLIT, StageError

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
        wanted = _on(self.side, sides)
        shown = self.landmark_ids != NONE
        return np.flatnonzero(wanted & ((shown & landmarks) | (~shown & distractors)))


def _on(side: NDArray[np.str_], names: Sequence[str]) -> NDArray[np.bool_]:
    """Which rows are on one of the named sides; unlike np.isin, without sorting millions of words."""
    on = np.zeros(len(side), bool)
    for name in names:
        on |= side == name
    return on


def read_sides() -> Sides:
    """Raises StageError if clean and split do not belong together."""
    images, split = read_images(CLEAN), by_image_id(pq.read_table(SPLIT))
    if not images["image_id"].equals(split["image_id"]):
        raise StageError(f"{SPLIT} and {CLEAN}/images.parquet name different photos; run `dvc repro split`")
    side = whole(split["side"]).dictionary_encode()
    names = np.array(side.dictionary.to_pylist(), np.str_)
    return Sides(images, names[side.indices.to_numpy()], labels_of(images))


def image_numbers(images: pa.Table) -> NDArray[np.int64]:
    """The image ids as the numbers that FAISS stores, int64 [rows]."""
    return as_numbers(images["image_id"])


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
    """Where to read each photo to embed it: queries from the raw shards, as a server gets them, the rest cleaned.

    Raises StageError if a query is not among the raw photos.
    """
    raw = read_images(RAW)
    query = _on(sides.side, QUERIES)
    asked = pa.array(np.flatnonzero(query))
    row = pc.index_in(sides.images["image_id"].take(asked), value_set=whole(raw["image_id"]))
    if row.null_count:
        raise StageError(f"{CLEAN}/images.parquet names photos that {RAW} does not; run `dvc repro clean`")
    places = np.empty(len(query), object)
    places[query] = locations(RAW, raw.take(row))
    places[~query] = locations(CLEAN, sides.images.filter(pa.array(~query)))
    return places.tolist()
