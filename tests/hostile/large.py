"""A label file and an attribution file of ten million rows, many of them odd, by the GLDv2 source.

    python tests/hostile/large.py [--rows 10000000] [--seed 0]

Too slow for the tests. Prints time, peak memory and counts; exits with 1 if they are not what was written.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from sources.gldv2_layout import serve, write_layout

from cairn.params import Gldv2Params
from cairn.progress import progress
from cairn.sources.gldv2 import Gldv2Source

BATCH = 100_000  # rows
ODD = 1000  # of so many rows one has no landmark, one comes again, one has a formula for an author


def write(root: Path, rows: int, seed: int) -> dict[str, int]:
    """Put large tables in the place of small ones; gives the counts that the source should come to."""
    layout = write_layout(root, shards=1, seed=seed)
    real = [(key, value) for key, value in layout.labels["train"].items() if key != "f" * 16]
    rng, unlabelled, again = np.random.default_rng(seed), 0, 0
    labels, authors = (root / "metadata" / name for name in ("train.csv", "train_attribution.csv"))
    with labels.open("w") as one, authors.open("w") as two:
        one.write("id,landmark_id\n" + "".join(f"{key},{value}\n" for key, value in real))
        two.write("id,url,author,license,title\n")
        for start in progress(range(0, rows, BATCH), "write rows", unit="batch"):
            ids = [f"{number:016x}" for number in rng.integers(0, 2**62, min(BATCH, rows - start)).tolist()]
            lines = [f"{key},{number % 200_000}\n" for number, key in enumerate(ids)]
            lines[::ODD] = [f"{key},\n" for key in ids[::ODD]]
            unlabelled += len(ids[::ODD])
            lines[1::ODD] = [line * 2 for line in lines[1::ODD]]
            again += len(ids[1::ODD])
            one.writelines(lines)
            texts = [f"{key},u,somebody,l,t\n" for key in ids]
            texts[2::ODD] = [f'{key},u,"=cmd|\' /C calc\'!A0\n",l,"a ""title"",\n"\n' for key in ids[2::ODD]]
            two.writelines(texts)
    return {"images": len(real), "unlabelled": unlabelled, "listed_again": again, "missing_in_tars": rows - unlabelled}


def fetch(url: str, folder: Path, answers: multiprocessing.SimpleQueue[tuple[dict[str, int], int]]) -> None:
    """In a process of its own, whose peak memory in kB is told beside the counts."""
    params = {"base_url": url, "split": "train", "labels": "full", "first_shard": 0, "last_shard": 0, "workers": 2}
    source = Gldv2Source(Gldv2Params.model_validate(params | {"retries": 0, "timeout_s": 600}))
    facts = source.fetch(folder / "out", folder / "keep").facts
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    answers.put((facts, int(peak[1]) if peak else 0))


def main() -> int:
    """Write, fetch, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="cairn-large-") as name:
        folder = Path(name)
        wanted = write(folder / "site", args.rows, args.seed)
        answers = context.SimpleQueue()
        with serve(folder / "site") as (url, _):
            begun = time.perf_counter()
            process = context.Process(target=fetch, args=(url, folder, answers))
            process.start()
            process.join()
        if process.exitcode:
            return 1
        facts, peak = answers.get()
    print(f"{args.rows} rows in {time.perf_counter() - begun:.1f} s, {peak / 1e6:.2f} GB at most")
    wrong = {name: (facts[name], count) for name, count in wanted.items() if facts[name] != count}
    print(f"found and written differ: {wrong}" if wrong else f"counts as written: {wanted}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
