"""The sheet of photos that cleaning set aside: a row for each reason."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from cairn.cleaning.reasons import REASONS
from cairn.manifest import as_number
from cairn.params import CleanParams
from cairn.photos import DecodeError
from cairn.pictures.dropped_sheet import MOST_PHOTOS, DroppedRow, dropped_sheet
from cairn.pictures.photos import ReadImage, open_photos


def draw_set_aside(raw: Path, images: pa.Table, dropped: pa.Table, params: CleanParams, path: Path) -> None:
    """Draw up to MOST_PHOTOS photos for each reason, with the evidence below, to a PNG at `path`."""
    rows = []
    with open_photos(raw, images, params.short_side, params.max_megapixels) as read:
        for reason in REASONS:
            chosen = dropped.filter(pc.equal(dropped["reason"], reason))
            shown = chosen.select(["image_id", "evidence"])[:MOST_PHOTOS].to_pylist()
            photos = [(_opened(read, row["image_id"]), row["evidence"]) for row in shown]
            rows.append(DroppedRow(reason, chosen.num_rows, photos))
    dropped_sheet(rows, path, "Photos set aside, and why")


def _opened(read: ReadImage, image_id: str) -> Image.Image | None:
    try:
        return read(as_number(image_id))
    except DecodeError:
        return None
