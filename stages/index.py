"""index: put the train and index sides' landmark photos into a FAISS index.

Its type is chosen by size, or set by index.type; its recall is measured against exact search with validation queries.
Makes build/index/ with index.faiss and entries.arrow.
"""

from __future__ import annotations

import pyarrow as pa

from cairn.embedding import read_embeddings
from cairn.files import written_aside
from cairn.retrieval.entries import ENTRIES_FILE, entries_of, write_entries
from cairn.retrieval.index import INDEX_FILE, build_index, choose_type, recall_against_flat, write_index
from cairn.sides import DATABASE, image_numbers, read_sides
from cairn.stage import INDEX, TRAINED, Job, Report, StageError, run, use_threads


def index(job: Job) -> Report:
    use_threads(job.params)
    params = job.params.index
    sides = read_sides()
    vectors = read_embeddings(TRAINED, sides.images["shard"].to_pylist())
    rows = sides.rows(*DATABASE)
    if len(rows) == 0:
        raise StageError("no landmark photo is on the train or index side; see reports/split.json")
    factory = choose_type(len(rows)) if params.type == "auto" else params.type
    ids = image_numbers(sides.images)
    made = build_index(vectors[rows], ids[rows], factory, params.nprobe)
    queries = vectors[sides.rows("validation", distractors=True)[: params.recall_queries]]
    with written_aside(INDEX) as folder:
        folder.mkdir()
        write_index(made, folder / INDEX_FILE)
        write_entries(folder / ENTRIES_FILE, entries_of(sides.images.take(pa.array(rows))))
    content = {
        "type": factory,
        "chosen": "by size" if params.type == "auto" else "by index.type",
        "images": len(rows),
        "landmarks": len(set(sides.landmark_ids[rows].tolist())),
        "dimensions": vectors.shape[1],
        "bytes": (INDEX / INDEX_FILE).stat().st_size,
        "recall_at_10_against_flat": recall_against_flat(made, vectors[rows], ids[rows], queries),
        "recall_queries": len(queries),
    }
    return Report(content, datasets={"index": INDEX / ENTRIES_FILE})


if __name__ == "__main__":
    run("index", index, __doc__)
