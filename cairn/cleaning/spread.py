"""Work on many photos, shared out among processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from typing import TypeVar

import pyarrow as pa

from cairn.shards import Member

T = TypeVar("T")
Made = TypeVar("Made")


def places_of(images: pa.Table) -> list[Member]:
    """Where the photos of a manifest's rows lie, in their order."""
    columns = (images[name].to_pylist() for name in ("image_id", "shard", "offset", "size"))
    return [Member(*row) for row in zip(*columns, strict=True)]


def spread(work: Callable[[T], Made], items: Sequence[T], workers: int, together: int = 1) -> Iterator[Made]:
    """What `work` makes of each item, in their order: by so many processes, each given `together` items at a time."""
    if workers == 1 or len(items) < 2:
        yield from map(work, items)
        return
    # A fresh process each: torch or FAISS threads of the parent do not survive a fork.
    with get_context("forkserver").Pool(min(workers, len(items))) as pool:
        yield from pool.imap(work, items, chunksize=together)
