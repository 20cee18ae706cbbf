"""Photos of a manifest, opened by number while pictures are drawn."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pyarrow as pa
from PIL import Image

from cairn.manifest import as_image_id
from cairn.photos import decode
from cairn.shards import ShardReader

ReadImage = Callable[[int], Image.Image]  # image number -> photo


@contextmanager
def open_photos(root: Path, images: pa.Table, short_side: int, max_megapixels: float) -> Iterator[ReadImage]:
    """A function from image number to the RGB photo in the shards below `root`; each is decoded once.

    `images` are rows of a manifest, sorted by image id. The function raises KeyError for other photos.
    """
    ids, *columns = (images[name] for name in ("image_id", "shard", "offset", "size"))
    with ShardReader(root) as reader:

        @cache
        def read(number: int) -> Image.Image:
            image_id = as_image_id(number)
            row = bisect_left(range(len(ids)), image_id, key=lambda at: ids[at].as_py())
            if row == len(ids) or ids[row].as_py() != image_id:
                raise KeyError(f"{root}: no photo {image_id}")
            return decode(reader.read(*(column[row].as_py() for column in columns)), short_side, max_megapixels)

        yield read
