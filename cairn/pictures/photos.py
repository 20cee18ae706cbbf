"""Photos of a manifest, opened by number while pictures are drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pyarrow as pa
from PIL import Image

from cairn.manifest import as_number
from cairn.photos import decode
from cairn.shards import ShardReader


@contextmanager
def open_photos(
    root: Path, images: pa.Table, short_side: int, max_megapixels: float
) -> Iterator[Callable[[int], Image.Image]]:
    """A function from image number to the RGB photo in the shards below `root`; each is decoded once."""
    columns = (images[name].to_pylist() for name in ("image_id", "shard", "offset", "size"))
    places = {as_number(i): (shard, offset, size) for i, shard, offset, size in zip(*columns, strict=True)}
    with ShardReader(root) as reader:

        @cache
        def read(number: int) -> Image.Image:
            return decode(reader.read(*places[number]), short_side, max_megapixels)

        yield read
