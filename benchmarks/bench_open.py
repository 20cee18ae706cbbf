"""Opening an index to answer from it: mapped into memory, as the server does, against read into it.

    python benchmarks/bench_open.py [--photos 1000000] [--dimensions 64]
    python benchmarks/bench_open.py --folder FOLDER

Prints, for an exact index and for inverted lists, how long opening takes until the first answer, what it adds to the
process's memory then and after many answers, and how large the files are. Each way runs in a process of its own, the
files in the page cache.

With FOLDER, which `bench_index.py --keep` left, it opens that index as the server's `retrieve` does, with the entries,
the names, the rule of conf/config.yaml and its prototypes, and asks for answers.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from index_made import write_random_index
from measured import Cost, cost, own_mb
from numpy.typing import NDArray

from cairn.files import write_json
from cairn.manifest import write_landmarks
from cairn.params import load_params
from cairn.retrieval.answer import ANSWER_FILE, AnswerRule
from cairn.retrieval.context import CONTEXT_FOLDER, save_context
from cairn.retrieval.entries import ENTRIES_FILE, Entries, write_entries
from cairn.retrieval.index import INDEX_FILE, PhotoIndex, choose_type, read_index
from cairn.retrieval.rerankers.base import Context
from cairn.retrieval.rerankers.prototypes import prototypes_of
from cairn.retrieval.vectors import Vectors
from cairn.serving.retrieving import Retriever

WAYS = {"mapped": True, "read": False}
QUERIES = 200
LANDMARK = 20  # photos of each
ANSWERS = 200  # requests of each size
PARAMS = Path(__file__).parents[1] / "params.yaml"


def made(photos: int, dimensions: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Unit vectors and rising image numbers."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((photos, dimensions), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors, np.unique(rng.integers(-(2**63), 2**63, photos + photos // 100))[:photos]


def write(folder: Path, factory: str, vectors: NDArray[np.float32], ids: NDArray[np.int64]) -> None:
    """The files that the index stage writes."""
    folder.mkdir()
    write_random_index(folder, vectors, ids, factory)
    write_entries(folder / ENTRIES_FILE, entries(ids, np.arange(len(ids)) // LANDMARK))


def entries(ids: NDArray[np.int64], landmark_ids: NDArray[np.int64]) -> pa.Table:
    """Entries of photos with rising ids, otherwise made."""
    rows = np.arange(len(ids))
    columns = {
        "image_id": ids,
        "landmark_id": landmark_ids,
        "source_name": pa.array(rows).cast(pa.string()),
        "author": (rows // LANDMARK).astype(str),
        "licence": np.full(len(rows), "CC-BY-4.0"),
        "shard": np.char.add("shard_", (rows // 20_000).astype(str)),
        "offset": rows * 512,
        "size": rows,
    }
    return pa.table(columns)


def memory_mb() -> float:
    """Resident, of this process, of pages that are its own and of those it has mapped."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def measure(folder: Path, mapped: bool) -> None:
    """Open, answer, print one line."""
    before, start = memory_mb(), time.perf_counter()
    entries = Entries.open(folder / ENTRIES_FILE)
    index = PhotoIndex(read_index(folder / INDEX_FILE, mapped), entries.image_ids, entries.landmark_ids)
    opened, at_open = time.perf_counter() - start, memory_mb() - before
    queries = np.random.default_rng(1).standard_normal((QUERIES, index.dimensions)).astype(np.float32)
    index.search(queries[:1], 10)
    first = time.perf_counter() - start
    start = time.perf_counter()
    for query in queries[1:]:
        index.search(query[None], 10)
    each = (time.perf_counter() - start) / (QUERIES - 1)
    print(
        f"open {opened * 1e3:8.1f} ms {at_open:7.0f} MB   first answer {first * 1e3:8.1f} ms   then "
        f"{each * 1e3:6.2f} ms each {memory_mb() - before:7.0f} MB"
    )


def prepare(folder: Path, served: Path) -> None:
    """Write what `retrieve` opens, from what bench_index.py left."""
    served.mkdir()
    ids, shown = np.load(folder / "ids.npy"), np.load(folder / "landmarks.npy")
    vectors = Vectors(sorted((folder / "vectors").iterdir()))
    (served / INDEX_FILE).symlink_to((folder / INDEX_FILE).absolute())
    rising = np.argsort(ids)
    write_entries(served / ENTRIES_FILE, entries(ids[rising], shown[rising]))
    landmarks = np.unique(shown)
    names = {"landmark_id": landmarks, "name": [f"Landmark {n}" for n in landmarks]}
    write_landmarks(served, pa.table({**names, "category": pa.nulls(len(landmarks), pa.string())}))
    steps = load_params(PARAMS).evaluate.rerank
    context = Context(prototypes=prototypes_of(vectors, shown, None))
    save_context(served / CONTEXT_FOLDER, steps, context, ids, vectors)
    write_json(
        served / ANSWER_FILE, AnswerRule(neighbours=100, steps=steps, threshold=0.0, calibration=None).model_dump()
    )


def serve(folder: Path, served: Path) -> None:
    """Open as the server does, answer, print."""
    queries = np.load(folder / "queries.npy")
    with cost() as opening:
        retriever = Retriever(served, 1)
    print(f"opened in {opening.seconds * 1e3:.0f} ms, the first search made; own memory +{_added(opening):.0f} MB")
    for size in (1, 8, 64):
        waits = []
        for start in range(0, min(len(queries), ANSWERS * size) - size + 1, size):
            begun = time.perf_counter()
            retriever(queries[start : start + size])
            waits.append(time.perf_counter() - begun)
        low, high = np.quantile(waits, (0.5, 0.95)) * 1e3
        print(f"{size:3} queries at once: {low:7.2f} ms in the median, {high:7.2f} ms at the 95th of a hundred")
    print(f"own memory after that +{own_mb() - opening.before_mb:.0f} MB, with mapped files {memory_mb():.0f} MB")


def _added(measured: Cost) -> float:
    return measured.peak_mb - measured.before_mb


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--folder", type=Path, help="what bench_index.py --keep left")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure is not None:
        measure(args.measure, WAYS[args.way])
        return
    if args.serve is not None:
        serve(args.folder, args.serve)
        return
    if args.folder is not None:
        with tempfile.TemporaryDirectory() as name:
            prepare(args.folder, Path(name) / "1")
            subprocess.run([sys.executable, __file__, "--folder", args.folder, "--serve", Path(name) / "1"], check=True)
        return
    vectors, ids = made(args.photos, args.dimensions)
    with tempfile.TemporaryDirectory() as name:
        for factory in dict.fromkeys(("Flat", choose_type(args.photos, args.dimensions))):
            folder = Path(name) / factory
            write(folder, factory, vectors, ids)
            size = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
            print(
                f"{args.photos} photos of {args.dimensions} dimensions, {factory}: {size:.0f} MB of files", flush=True
            )
            for way in WAYS:
                print(f"  {way:8}", end="", flush=True)
                subprocess.run([sys.executable, __file__, "--measure", folder, "--way", way], check=True)


if __name__ == "__main__":
    main()
