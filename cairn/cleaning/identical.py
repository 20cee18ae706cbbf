"""Photos whose decoded pixels are equal: under several labels all are set aside, under one label all but one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cairn.cleaning.reasons import EXACT_DUPLICATE, LABEL_CONFLICT, Dropped, dropped
from cairn.manifest import NONE


def drop_identical(
    pixels: NDArray[np.uint8], labels: NDArray[np.int64], rows: NDArray[np.int64], image_ids: pa.Array
) -> Dropped:
    """Label conflicts and exact duplicates among `rows`; of equals the first row stays. A distractor's label is none.

    pixels: digests, uint8 [photos, bytes]
    labels: int64 [photos], NONE for a distractor
    rows: int64 [some], ascending
    """
    first, twin = _twins(pixels, rows)
    low, high = labels.copy(), labels.copy()
    np.minimum.at(low, first, labels[twin])
    np.maximum.at(high, first, labels[twin])
    divided = np.unique(first[low[first] != high[first]])
    united = twin[low[first] == high[first]]
    conflicts = _conflicts(divided, first, twin, labels)
    named = pc.binary_join_element_wise("twin of ", image_ids.take(pa.array(first[low[first] == high[first]])), "")
    said = [(row, words) for rows_, words in conflicts for row in rows_]
    return pa.concat_tables(
        [
            dropped([row for row, _ in said], LABEL_CONFLICT, [words for _, words in said]),
            dropped(united, EXACT_DUPLICATE, named),
        ]
    )


def _twins(pixels: NDArray[np.uint8], rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each row that is equal to an earlier one, and the first it is equal to: first, twin, int64 [twins] each."""
    starts = np.ascontiguousarray(pixels[:, :8]).view(np.uint64)[rows, 0]
    order = np.argsort(starts, kind="stable")
    again = np.flatnonzero(starts[order][1:] == starts[order][:-1])
    some = rows[np.sort(order[np.union1d(again, again + 1)])]  # few: of these whole digests are compared
    digests = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(pixels.shape[1]), len(some), [None, pa.py_buffer(np.ascontiguousarray(pixels[some]))]
    )
    codes = digests.dictionary_encode().indices.to_numpy()  # numbered as they come
    _, first = np.unique(codes, return_index=True)
    firsts = some[first[codes]] if len(some) else some
    return firsts[firsts != some], some[firsts != some]


def _conflicts(
    divided: NDArray[np.int64], first: NDArray[np.int64], twin: NDArray[np.int64], labels: NDArray[np.int64]
) -> list[tuple[list[int], str]]:
    """The rows of each group of equals with several labels, and what is said of them."""
    found = []
    inside = np.isin(first, divided)
    first, twin = first[inside], twin[inside]
    order = np.argsort(first, kind="stable")
    ends = np.flatnonzero(np.diff(first[order])) + 1
    for group in np.split(order, ends) if len(order) else ():
        rows = [int(first[group[0]]), *twin[group].tolist()]
        names = ", ".join("none" if label == NONE else str(label) for label in np.unique(labels[rows]).tolist())
        found.append((rows, f"landmarks {names} for one photo"))
    return found
