"""Entries of photos that lie nowhere, for tests that only look things up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cairn.retrieval.entries import ENTRIES


def entries_table(
    image_ids: NDArray[np.int64],
    landmark_ids: NDArray[np.int64],
    authors: Sequence[str | None] | None = None,
    licences: Sequence[str | None] | None = None,
) -> pa.Table:
    """Rows with the columns of ENTRIES, sorted; the n-th photo given is photo n of its shard."""
    rows = len(image_ids)
    columns = {
        "image_id": image_ids,
        "landmark_id": landmark_ids,
        "source_name": [f"{n}.jpg" for n in range(rows)],
        "author": authors or [None] * rows,
        "licence": licences or [None] * rows,
        "shard": ["shard_00000.tar"] * rows,
        "offset": [512 + 1024 * n for n in range(rows)],
        "size": [100 + n for n in range(rows)],
    }
    return pa.table(columns, schema=ENTRIES).sort_by("image_id")
