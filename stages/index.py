"""index: put the train and index sides' landmark photos into a FAISS index.

Its type is chosen by size, or set by index.type. Inverted lists are trained on a sample and made part by part; how many
of them are looked at follows from index.recall, measured with photos of the index itself, or is set by index.nprobe.
The recall is measured against exact search with validation queries. Makes build/index/ with index.faiss and
entries.arrow.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from cairn.files import written_aside
from cairn.retrieval.building import build
from cairn.retrieval.entries import ENTRIES_FILE, entries_of, write_entries
from cairn.retrieval.index import DEPTH, INDEX_FILE, choose_type, lists_of, search, write_index
from cairn.retrieval.tuning import exact_nearest, held_photos, recall_of, tune
from cairn.retrieval.vectors import Vectors
from cairn.sides import DATABASE, image_numbers, read_sides
from cairn.stage import INDEX, TRAINED, Job, Report, StageError, run, use_threads


def index(job: Job) -> Report:
    use_threads(job.params)
    params, seed = job.params.index, job.params.seed
    sides = read_sides()
    vectors = Vectors.open(TRAINED, sides.images["shard"])
    rows = sides.rows(*DATABASE)
    if len(rows) == 0:
        raise StageError("no landmark photo is on the train or index side; see reports/split.json")
    factory = choose_type(len(rows), vectors.dimensions) if params.type == "auto" else params.type
    ids = image_numbers(sides.images)[rows]
    made = build(vectors, rows, ids, factory, seed, job.keep)
    content: dict[str, str | int | float | None] = {
        "type": factory,
        "chosen": "by size" if params.type == "auto" else "by index.type",
        "images": len(rows),
        "landmarks": len(np.unique(sides.landmark_ids[rows])),
        "dimensions": vectors.dimensions,
    }
    if lists_of(made):
        content |= tune(made, held_photos(vectors, rows, ids, seed), params.recall, params.nprobe)._asdict()
    with written_aside(INDEX) as folder:
        folder.mkdir()
        write_index(made, folder / INDEX_FILE)
        write_entries(folder / ENTRIES_FILE, entries_of(sides.images.take(pa.array(rows))))
    queries = vectors[sides.rows("validation", distractors=True)[: params.recall_queries]]
    nearest = exact_nearest(vectors, rows, ids, queries, min(DEPTH, len(rows)))
    found = search(made, queries, min(DEPTH, len(rows)))[1]
    content |= {
        "bytes": (INDEX / INDEX_FILE).stat().st_size,
        "recall_at_10_against_flat": recall_of(found, nearest),
        "recall_queries": len(queries),
    }
    return Report(content, datasets={"index": INDEX / ENTRIES_FILE})


if __name__ == "__main__":
    run("index", index, __doc__)
