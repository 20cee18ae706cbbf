"""An index of random vectors, where only its size and type matter."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from cairn.retrieval.building import build
from cairn.retrieval.index import INDEX_FILE, lists_of, write_index


def write_random_index(folder: Path, vectors: NDArray[np.float32], ids: NDArray[np.int64], factory: str) -> None:
    """Write the index of unit vectors float32 [n, dimensions] with image ids int64 [n] into `folder`.

    Of inverted lists a sixteenth is looked at: to tune them by recall would say nothing, since all random vectors lie
    about as far from each other.
    """
    with TemporaryDirectory(dir=folder) as keep:
        index = build(vectors, np.arange(len(ids)), ids, factory, 0, Path(keep))
        lists = lists_of(index)
        if lists is not None:
            lists.nprobe = max(1, lists.nlist // 16)
        write_index(index, folder / INDEX_FILE)
