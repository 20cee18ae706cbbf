"""Photos that are doubted to show what they are labelled with. None is dropped for it here: the split decides, so that
queries keep theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cairn.cleaning.geometry import doubts_by_geometry
from cairn.cleaning.neighbours import Doubts, doubts_by_neighbours, surroundings
from cairn.manifest import labels_of
from cairn.params import CleanParams

SUSPECTS = pa.schema([("image_id", pa.string()), ("method", pa.string()), ("evidence", pa.string())])


def suspects(
    raw: Path, images: pa.Table, vectors: NDArray[np.float32], pairs: NDArray[np.int64], params: CleanParams
) -> pa.Table:
    """A row for each photo whose label is doubted (SUSPECTS), by image id.

    images: rows of the raw manifest
    vectors: unit vectors [images, dimensions]
    pairs: rows of near duplicates, int64 [pairs, 2]

    With both methods a photo is suspect if both say so: geometry looks only at those that neighbours doubt, and clears
    the odd views that do fit.
    """
    noise = params.label_noise
    labels = labels_of(images)
    by_geometry = noise.method != "neighbours"
    around = surroundings(vectors, labels, pairs, max(noise.neighbours.k, noise.geometry.neighbours * by_geometry))
    doubts: Doubts = dict.fromkeys(range(len(labels)), "")
    if noise.method != "geometry":
        doubts = doubts_by_neighbours(around, noise.neighbours)
    if by_geometry:
        more = doubts_by_geometry(raw, images, around, doubts, noise.geometry, params.workers, params.max_megapixels)
        doubts = {row: "; ".join(filter(None, (doubts[row], said))) for row, said in more.items()}
    ids = images["image_id"].to_pylist()
    return table_of({ids[row]: (noise.method, said) for row, said in doubts.items()})


def with_indoor(found: pa.Table, indoor: Sequence[tuple[str, str]]) -> pa.Table:
    """`found` (SUSPECTS) with the photos that the outdoor vote doubts, an image id and the evidence each."""
    rows = {row["image_id"]: (row["method"], row["evidence"]) for row in found.to_pylist()}
    for image_id, said in indoor:
        method, before = rows.get(image_id, ("", ""))
        rows[image_id] = (f"{method}, scenes".removeprefix(", "), f"{before}; {said}".removeprefix("; "))
    return table_of(rows)


def table_of(found: Mapping[str, tuple[str, str]]) -> pa.Table:
    """SUSPECTS by image id, from method and evidence of each."""
    rows = [(image_id, *found[image_id]) for image_id in sorted(found)]
    return pa.Table.from_pylist([dict(zip(SUSPECTS.names, row, strict=True)) for row in rows], schema=SUSPECTS)
