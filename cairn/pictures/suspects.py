"""The sheet of photos whose label is doubted: a row for each landmark, those with most suspects first."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from cairn.manifest import as_number, names_of
from cairn.params import CleanParams
from cairn.pictures.dropped_sheet import MOST_PHOTOS, DroppedRow, dropped_sheet
from cairn.pictures.photos import open_photos

MOST_ROWS = 8
NO_LANDMARK = "no landmark"


def draw_suspects(
    raw: Path, images: pa.Table, landmarks: pa.Table, suspects: pa.Table, params: CleanParams, path: Path
) -> None:
    """Draw up to MOST_PHOTOS suspects for each of MOST_ROWS landmarks, with the evidence below, to a PNG at `path`.

    images, landmarks: the raw manifest
    suspects: image_id, evidence string
    """
    shown = images.filter(pc.is_in(images["image_id"], value_set=pa.array(suspects["image_id"].to_pylist())))
    labels = dict(zip(shown["image_id"].to_pylist(), shown["landmark_id"].to_pylist(), strict=True))
    names = names_of(landmarks)
    doubted = defaultdict(list)
    for image_id, said in zip(suspects["image_id"].to_pylist(), suspects["evidence"].to_pylist(), strict=True):
        doubted[labels[image_id]].append((image_id, said))
    most = sorted(doubted, key=lambda label: (-len(doubted[label]), label is None, label or 0))[:MOST_ROWS]
    with open_photos(raw, shown, params.short_side, params.max_megapixels) as read:
        rows = [
            DroppedRow(
                NO_LANDMARK if label is None else f"{names[label]} (landmark {label})",
                len(doubted[label]),
                [(read(as_number(image_id)), said) for image_id, said in doubted[label][:MOST_PHOTOS]],
            )
            for label in most
        ]
    left = len(doubted) - len(rows)
    title = "Photos whose label is doubted, by landmark" + (f" ({left:,} more landmarks have some)" if left else "")
    dropped_sheet(rows, path, title)
