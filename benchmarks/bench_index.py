"""Indexes of millions of photos: how they are built, how large they are, what they find and how fast.

    python benchmarks/bench_index.py [--photos 150000] [--types auto IVF2048,SQfp16 ...] [--recall 0.98 ...]
    python benchmarks/bench_index.py --full

Vectors are made ones that are as hard to search as a real network's; first both are compared (`vector_shape.py`; --real
takes your own). Half of the queries are other photos of the index's landmarks, half are of none. Each index is built as
the `index` stage does, in a process of its own whose memory is watched, opened from its file in another, and asked for
ten neighbours, all queries at once and one by one. Flat is FAISS's exact search over float32, a part of the photos in
memory at a time; only the searches are timed. --full: five million photos of 512 dimensions, 40 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
from made_vectors import DIMENSIONS, write
from measured import cores, cost
from numpy.typing import NDArray
from vector_shape import compare

from cairn.retrieval.building import build
from cairn.retrieval.index import DEPTH, choose_type, lists_of, read_index, refined, search, write_index
from cairn.retrieval.tuning import held_photos, recall_of, tune
from cairn.retrieval.vectors import Vectors

FULL = 5_000_000
RECALL = 0.99  # the default of index.recall
ONE_BY_ONE = 200
FLAT_ROWS = 250_000  # float32 vectors in memory at a time: 512 MB of 512 dimensions
FLAT_ONE_BY_ONE = 10


class Exact(NamedTuple):
    """The nearest, int64 [queries, DEPTH], and what a query cost, in seconds, all at once and one by one."""

    nearest: NDArray[np.int64]
    batch_s: float
    single_s: float


def exact(vectors: Vectors, ids: NDArray[np.int64], queries: NDArray[np.float32]) -> Exact:
    """Flat, part by part."""
    best = faiss.ResultHeap(len(queries), DEPTH, keep_max=True)
    batch = single = 0.0
    for start in range(0, len(ids), FLAT_ROWS):
        index = faiss.IndexFlatIP(vectors.dimensions)
        index.add(vectors[np.arange(start, min(start + FLAT_ROWS, len(ids)))])
        begun = time.perf_counter()
        scores, places = index.search(queries, DEPTH)
        batch += time.perf_counter() - begun
        begun = time.perf_counter()
        for query in queries[:FLAT_ONE_BY_ONE]:
            index.search(query[None], DEPTH)
        single += time.perf_counter() - begun
        best.add_result(scores, places + start)
    best.finalize()
    return Exact(ids[best.I], batch / len(queries), single / FLAT_ONE_BY_ONE)


def made(folder: Path, factory: str) -> None:
    """Build an index from the folder's vectors and print what that took."""
    vectors, ids = Vectors(sorted((folder / "vectors").iterdir())), np.load(folder / "ids.npy")
    rows, seconds = np.arange(len(ids)), {}
    keep = folder / "keep"
    keep.mkdir(exist_ok=True)
    with cost() as whole:
        start = time.perf_counter()
        index = build(vectors, rows, ids, factory, 1, keep)
        seconds["build_s"] = time.perf_counter() - start
        effort: dict[str, Any] = {}
        start = time.perf_counter()
        if lists_of(index):
            effort = tune(index, held_photos(vectors, rows, ids, 1), RECALL, None)._asdict()
        seconds["tune_s"] = time.perf_counter() - start
        start = time.perf_counter()
        write_index(index, folder / "index.faiss")
        seconds["write_s"] = time.perf_counter() - start
    print(json.dumps({**seconds, **effort, "before_mb": whole.before_mb, "peak_mb": whole.peak_mb}))


def asked(folder: Path, recall: float | None) -> None:
    """Open the index, ask it, and print what came of that; tuned anew, where another recall is wanted."""
    queries, nearest = np.load(folder / "queries.npy"), np.load(folder / "nearest.npy")
    with cost() as opening:
        index = read_index(folder / "index.faiss")
        search(index, queries[:1], DEPTH)
    effort: dict[str, Any] = {}
    if recall is not None:
        vectors, ids = Vectors(sorted((folder / "vectors").iterdir())), np.load(folder / "ids.npy")
        effort = tune(index, held_photos(vectors, np.arange(len(ids)), ids, 1), recall, None)._asdict()
    search(index, queries, DEPTH)  # what is mapped lies in memory then
    with cost() as searching:
        _, found = search(index, queries, DEPTH)
    with cost() as single:
        for query in queries[:: max(1, len(queries) // ONE_BY_ONE)][:ONE_BY_ONE]:
            search(index, query[None], DEPTH)
    half = len(queries) // 2
    figures = {
        "open_s": opening.seconds,
        "open_mb": opening.peak_mb - opening.before_mb,
        "batch_s": searching.seconds / len(queries),
        "single_s": single.seconds / min(ONE_BY_ONE, len(queries)),
        "recall": recall_of(found, nearest),
        "recall_landmarks": recall_of(found[:half], nearest[:half]),
        "recall_distractors": recall_of(found[half:], nearest[half:]),
        "gb": (folder / "index.faiss").stat().st_size / 1e9,
        "refined": refined(index) is not None,
    }
    print(json.dumps({**figures, **effort}))


def child(folder: Path, *arguments: str) -> dict[str, Any]:
    """What this script prints last when it is run so."""
    command = [sys.executable, __file__, "--folder", str(folder), *arguments]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return dict(json.loads(lines[-1]))


def run(folder: Path, photos: int, queries: int, types: list[str], recalls: list[float]) -> None:
    """Make the vectors, and print a line for each type."""
    start = time.perf_counter()
    world = write(folder / "vectors", photos, queries // 2, queries - queries // 2, DIMENSIONS)
    np.save(folder / "ids.npy", world.image_ids)
    np.save(folder / "landmarks.npy", world.landmark_ids)
    np.save(folder / "queries.npy", world.queries.vectors)
    np.save(folder / "query_landmarks.npy", world.queries.landmark_ids)
    print(
        f"\n{photos} photos of {DIMENSIONS} dimensions, {queries} queries (made in {time.perf_counter() - start:.0f} s)"
    )
    flat = exact(Vectors(world.paths), world.image_ids, world.queries.vectors)
    np.save(folder / "nearest.npy", flat.nearest)
    print(f"Flat, at once {1 / flat.batch_s:.1f} queries/s, one by one {1 / flat.single_s:.2f} queries/s", flush=True)
    for wanted in types:
        factory = choose_type(photos, DIMENSIONS) if wanted == "auto" else wanted
        costs = child(folder, "--build", factory)
        got = child(folder, "--ask")
        print(
            f"{factory}: {json.dumps({key: round(value, 4) for key, value in {**costs, **got}.items() if value})}\n"
            f"  recall@10 {got['recall']:.4f} ({got['recall_landmarks']:.4f} of landmarks, "
            f"{got['recall_distractors']:.4f} of distractors); to Flat: at once {flat.batch_s / got['batch_s']:.0f}, "
            f"one by one {flat.single_s / got['single_s']:.0f}; built in {costs['build_s'] + costs['tune_s']:.0f} s "
            f"with {costs['peak_mb']:.0f} MB; opened in {got['open_s'] * 1e3:.0f} ms; {got['gb']:.2f} GB",
            flush=True,
        )
        for recall in recalls if costs.get("nprobe") else []:  # without lists there is nothing to tune
            got = child(folder, "--ask", "--recall", str(recall))
            print(
                f"  tuned for {recall}: recall@10 {got['recall']:.4f}; {got['nprobe']} lists, {got['candidates']} "
                f"candidates; to Flat: at once {flat.batch_s / got['batch_s']:.0f}, "
                f"one by one {flat.single_s / got['single_s']:.0f}"
            )
        for path in (folder / "keep").iterdir():
            path.unlink()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=150_000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--types", nargs="+", default=["auto"], help="FAISS factory strings")
    parser.add_argument(
        "--recall", type=float, nargs="+", default=[], help=f"of own photos, to tune for beside {RECALL}, the default"
    )
    parser.add_argument("--full", action="store_true", help=f"{FULL} photos")
    parser.add_argument("--real", type=Path, help="what embed_folder.py wrote, to compare with")
    parser.add_argument("--disk", type=Path, help="where to make a folder for the files, which goes at the end")
    parser.add_argument("--keep", type=Path, help="a new folder for the files, for bench_evaluate.py and bench_open.py")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--build", help=argparse.SUPPRESS)
    parser.add_argument("--ask", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    faiss.omp_set_num_threads(cores())
    if args.build:
        made(args.folder, args.build)
    elif args.ask:
        asked(args.folder, next(iter(args.recall), None))
    else:
        compare(args.real)
        photos = FULL if args.full else args.photos
        if args.keep:
            run(args.keep, photos, args.queries, args.types, args.recall)
        else:
            with tempfile.TemporaryDirectory(dir=args.disk) as name:
                run(Path(name), photos, args.queries, args.types, args.recall)


if __name__ == "__main__":
    main()
