"""Where photos come from. A new source is one file here and one line in SOURCES."""

from __future__ import annotations

from collections.abc import Callable

from cairn.params import Params
from cairn.sources.base import Source
from cairn.sources.folder import FolderSource
from cairn.sources.gldv2 import Gldv2Source
from cairn.sources.synthetic import SyntheticSource

SOURCES: dict[str, Callable[[Params], Source]] = {
    "synthetic": lambda p: SyntheticSource(p.fetch.synthetic, p.fetch.shard_mb, p.seed),
    "folder": lambda p: FolderSource(p.fetch.folder, p.fetch.shard_mb),
    "gldv2": lambda p: Gldv2Source(p.fetch.gldv2),
}
