"""The parts of `evaluate` at the size of a whole landmark collection: time, and memory above the mapped index.

    python benchmarks/bench_evaluate.py [--folder FOLDER] [--queries 5000]
    python benchmarks/bench_evaluate.py --folder FOLDER --full

FOLDER is what `bench_index.py --keep` left; without one, a small index is made. The queries are other photos of its
landmarks, as many as there are, and distractors: --full asks 117,577, as many as GLDv2 tests with. A tenth of them are
the validation side. The chain is that of conf/config.yaml, the depth 100.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
from made_vectors import DIMENSIONS, SEED, SHARD, World
from measured import cores, cost, own_mb
from PIL import Image

from cairn.evaluation import MAP_DEPTH, predictions, report
from cairn.files import write_table
from cairn.manifest import as_image_id
from cairn.metrics.coverage import precision_coverage
from cairn.metrics.gap import gap_of
from cairn.params import load_params
from cairn.pictures.answers import counts, draw_answers
from cairn.pictures.class_sizes import class_sizes
from cairn.queries import Embedded, Gallery, ask, in_gallery
from cairn.retrieval.index import INDEX_FILE, PhotoIndex, read_index
from cairn.retrieval.rerankers.base import Context
from cairn.retrieval.vectors import Vectors
from cairn.sides import DATABASE, Sides

FULL = 117_577
SMALL = 150_000  # photos of an index made here
PARAMS = Path(__file__).parents[1] / "params.yaml"


@contextmanager
def told(what: str, since: float) -> Iterator[None]:
    """Print what a block took, and its memory over `since` MB."""
    with cost() as measured:
        yield
    print(f"{what:40}{measured.seconds:10.2f} s{measured.peak_mb - since:10.0f} MB", flush=True)


def add_queries(folder: Path, queries: int) -> tuple[Vectors, Sides]:
    """The folder's photos with queries behind them, as a manifest in its order; a tenth of these to validate with."""
    known, shown = np.load(folder / "ids.npy"), np.load(folder / "landmarks.npy")
    asked, asked_for = np.load(folder / "queries.npy"), np.load(folder / "query_landmarks.npy")
    landmarks = asked_for >= 0
    others = World(DIMENSIONS, SEED).distractors(queries - int(landmarks.sum()), 1)
    vectors = np.concatenate([asked[landmarks], others.vectors]).astype(np.float16)
    truth = np.concatenate([asked_for[landmarks], others.landmark_ids])
    order = np.random.default_rng(SEED).permutation(queries)
    vectors, truth = vectors[order], truth[order]
    paths = sorted((folder / "vectors").iterdir())
    for start in range(0, queries, SHARD):
        paths.append(folder / f"queries_{start:07}.npy")
        np.save(paths[-1], vectors[start : start + SHARD])
    last = int(known.view(np.uint64)[-1])
    ids = np.concatenate([known.view(np.uint64), last + 1 + np.arange(queries, dtype=np.uint64)]).view(np.int64)
    side = np.full(len(ids), "index", dtype="<U10")
    side[len(known) :] = np.where(np.arange(queries) % 10, "test", "validation")
    images = pa.table({"image_id": [as_image_id(number) for number in ids.tolist()]})
    return Vectors(paths), Sides(images, side, np.concatenate([shown, truth]))


def measure(folder: Path, queries: int) -> None:
    """Print a line for each part."""
    params = load_params(PARAMS)
    faiss.omp_set_num_threads(cores())
    vectors, sides = add_queries(folder, queries)
    print(f"{queries} queries, {len(vectors) - queries} photos, {len(np.unique(sides.landmark_ids))} landmarks; the ")
    print(f"manifest and libraries have {own_mb():.0f} MB before the index is opened\n")
    before = own_mb()
    with told("open the index", before):
        rows = sides.rows(*DATABASE)
        ids = np.load(folder / "ids.npy")
        index = PhotoIndex(read_index(folder / INDEX_FILE), ids, sides.landmark_ids[rows])
        gallery, photos = Gallery(index, rows), Embedded(sides, vectors)
    start = own_mb()
    with told("search alone, all test queries", start):
        test = sides.rows("test", distractors=True)
        for first in range(0, len(test), 4096):
            index.search(vectors[test[first : first + 4096]], MAP_DEPTH)
    with told("ask: prototypes, search, chain, rule", start):
        asked = ask(photos, gallery, params.evaluate.rerank, params, Context())
    with told("every figure of the report", start):
        report(asked.test, in_gallery(sides, rows, asked.test), asked.rule, {})
    with told("GAP alone", start):
        gap_of(asked.test.scores, asked.test.right, asked.test.landmark_queries, asked.test.image_ids)
    with told("predictions.parquet", start):
        write_table(folder / "predictions.parquet", predictions(asked.test, asked.rule.threshold, None))
    with told("pictures", start):
        pictures = folder / "pictures"
        pictures.mkdir(exist_ok=True)
        curve = precision_coverage(asked.test.scores, asked.test.right, asked.test.landmark_queries)
        class_sizes(counts(sides.landmark_ids), pictures / "class_sizes.png", "Photos per landmark")
        photo = Image.new("RGB", (256, 256))
        draw_answers(asked.test, curve, asked.rule, {}, lambda number: photo, pictures, 0.95)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="what bench_index.py --keep left")
    parser.add_argument("--queries", type=int, default=5000)
    parser.add_argument("--full", action="store_true", help=f"{FULL} queries")
    args = parser.parse_args()
    queries = FULL if args.full else args.queries
    if args.folder:
        measure(args.folder, queries)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "made"
        script = Path(__file__).with_name("bench_index.py")
        subprocess.run(
            [sys.executable, script, "--photos", str(SMALL), "--keep", folder], check=True, stdout=subprocess.DEVNULL
        )
        measure(folder, queries)


if __name__ == "__main__":
    main()
