"""The sheet of photos that cleaning set aside: a row for each reason."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from cairn.cleaning.reasons import REASONS
from cairn.params import CleanParams
from cairn.photos import DecodeError, decode
from cairn.pictures.dropped_sheet import DroppedRow, dropped_sheet
from cairn.shards import ShardReader

SHOWN = 6


def draw_set_aside(raw: Path, images: pa.Table, dropped: pa.Table, params: CleanParams, path: Path) -> None:
    """Draw up to SHOWN photos for each reason, with the evidence below, to a PNG at `path`."""
    rows = []
    with ShardReader(raw) as reader:
        for reason in REASONS:
            chosen = dropped.filter(pc.equal(dropped["reason"], reason))
            photos = [
                (_open(reader, images, image_id, params), said)
                for image_id, said in zip(
                    chosen["image_id"][:SHOWN].to_pylist(), chosen["evidence"][:SHOWN].to_pylist(), strict=True
                )
            ]
            rows.append(DroppedRow(reason, chosen.num_rows, photos))
    dropped_sheet(rows, path, "Photos set aside, and why")


def _open(reader: ShardReader, images: pa.Table, image_id: str, params: CleanParams) -> Image.Image | None:
    row = images.filter(pc.equal(images["image_id"], image_id)).select(["shard", "offset", "size"]).to_pylist()[0]
    try:
        return decode(reader.read(row["shard"], row["offset"], row["size"]), params.short_side, params.max_megapixels)
    except DecodeError:
        return None
