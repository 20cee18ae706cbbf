"""Indexes over vectors that are all in memory, made by FAISS's own way of adding photos: no parts, no files."""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import NDArray

from cairn.retrieval.index import empty_index, lists_of


def made_index(
    vectors: NDArray[np.float32], ids: NDArray[np.int64], factory: str = "Flat", nprobe: int = 1
) -> faiss.Index:
    """An inner-product index over unit vectors [rows, dimensions], with ids [rows]; nprobe: of inverted lists."""
    index = empty_index(vectors.shape[1], factory)
    index.train(vectors)
    index.add_with_ids(vectors, ids)
    lists = lists_of(index)
    if lists is not None:
        lists.nprobe = nprobe
    return index
