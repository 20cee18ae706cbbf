"""The readers of shards, manifests and params on files that were valid before they were changed.

    python benchmarks/fuzz_readers.py [--runs 10000] [--seed 0] [--only READER] [--save build/fuzz]

Each reader works in a process of its own, with 4 GB more than it begins with. A file is accepted, refused by an error
of this project, or crashes: another error, a process that dies, or one that works on a file for over a minute. What
crashed is saved. Prints the counts; exits with 1 if anything crashed. The files of a seed are always the same.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import NamedTuple, TypeAlias

import mutations
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy
from tqdm import tqdm

from cairn.manifest import ManifestError, read_images
from cairn.params import ParamsError, load_params
from cairn.progress import progress
from cairn.shards import ShardError, ShardReader, index_shard

ROOT = Path(__file__).parents[1]
ROUND = 10_000  # runs whose choices Hypothesis remembers
MOST_MEMORY = 4 << 30  # bytes
HANG_S = 60.0
POLL_S = 0.1


Done: TypeAlias = "Synchronized[int]"
Answers: TypeAlias = "SimpleQueue[Counter[str]]"


class Round(NamedTuple):
    """So many files of a seed, tried one after another at the same path in `folder`; what crashes goes to `save`."""

    seed: int
    runs: int
    folder: Path
    save: Path


class Reader(NamedTuple):
    """What is tried: it reads `file` in a folder, and may raise `refusal`."""

    file: str
    files: Callable[[], SearchStrategy[bytes]]
    read: Callable[[Path], object]
    refusal: type[Exception]


def read_shard(path: Path) -> None:
    """The members, and what each holds."""
    with ShardReader(path.parent) as reader:
        for member in index_shard(path, path.parent):
            reader.read(member.shard, member.offset, member.size)


def read_manifest(path: Path) -> None:
    """The table, and what each cell holds."""
    read_images(path.parent).to_pylist()


READERS = {
    "shards": Reader("images.tar", mutations.shards, read_shard, ShardError),
    "manifest": Reader("images.parquet", mutations.tables, read_manifest, ManifestError),
    "params": Reader("params.yaml", mutations.documents, load_params, ParamsError),
}


def outcome(reader: Reader, path: Path) -> tuple[str, str]:
    """Of the file at `path`: accepted, refused or crashed, and by which error."""
    try:
        reader.read(path)
    except reader.refusal as error:
        cause = f" from {type(error.__cause__).__name__}" if error.__cause__ else ""
        return "refused", f"{type(error).__name__}{cause}"
    except Exception as error:  # noqa: BLE001 - which is what is looked for
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return "crashed", f"{type(error).__name__} in {Path(frame.filename).name}, line {frame.lineno}"
    return "accepted", ""


def work(reader: Reader, this: Round, done: Done, answers: Answers) -> None:
    """A round, in a process of its own."""
    warnings.simplefilter("ignore")  # of ruamel.yaml, about anchors
    limit = MOST_MEMORY + _address_space()
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    found: Counter[str] = Counter()

    @seed(this.seed)
    @settings(
        max_examples=this.runs,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(reader.files())
    def run(content: bytes) -> None:
        if found.total() == this.runs:
            return
        path = this.folder / reader.file
        path.write_bytes(content)
        what, error = outcome(reader, path)
        if what == "crashed":
            keep(path, this.save, error)
        found[f"{what} {error}".strip()] += 1
        done.value += 1

    run()
    answers.put(found)


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def keep(path: Path, save: Path, error: str) -> Path:
    """Copy what crashed, if no smaller file crashed so before."""
    name = "".join(letter if letter.isalnum() else "_" for letter in error)
    target = save / f"{path.stem}-{name}{path.suffix}"
    save.mkdir(parents=True, exist_ok=True)
    if path.exists() and (not target.exists() or path.stat().st_size < target.stat().st_size):
        shutil.copy(path, target)
    return target


def fuzz(reader: Reader, runs: int, first_seed: int, save: Path, hang_s: float = HANG_S) -> Counter[str]:
    """Outcomes of `runs` files, with a progress bar. A round whose process dies or hangs ends there."""
    context = multiprocessing.get_context("spawn")
    counts: Counter[str] = Counter()
    with (
        tempfile.TemporaryDirectory(prefix="cairn-fuzz-") as folder,
        progress((), f"fuzz {reader.file}", runs, "file") as bar,
    ):
        for start in range(0, runs, ROUND):
            done, answers = context.Value("q", 0), context.SimpleQueue()
            this = Round(first_seed * 1_000_003 + start, min(ROUND, runs - start), Path(folder), save)
            process = context.Process(target=work, args=(reader, this, done, answers))
            process.start()
            died = watch(process, done, bar, hang_s)
            if not answers.empty():
                counts += answers.get()
            if died:
                keep(this.folder / reader.file, save, died)
                counts[f"crashed {died}"] += 1
                counts["tried in the round before that"] += done.value
    return counts


def watch(process: BaseProcess, done: Done, bar: tqdm[object], hang_s: float) -> str:
    """Wait for a round, moving the bar. Why it ended before its time; empty if it did not."""
    seen, since = 0, 0.0
    while process.is_alive():
        process.join(POLL_S)
        now = done.value
        bar.update(now - seen)
        if process.exitcode is None:
            busy = _busy_s(process)
            seen, since = now, busy if now != seen else since
            if seen and busy - since > hang_s:
                process.kill()
                process.join()
                return "hang"
    bar.update(done.value - seen)
    return f"exit status {process.exitcode}" if process.exitcode else ""


def _busy_s(process: BaseProcess) -> float:
    """Seconds of the processor that a process took: unlike the clock's, they do not grow while it waits for one."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Fuzz each reader, say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000, help="files for each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=READERS)
    parser.add_argument("--save", type=Path, default=ROOT / "build" / "fuzz", help="where crashing files go")
    args = parser.parse_args()
    crashed = 0
    for name in [args.only] if args.only else READERS:
        begun = time.perf_counter()
        counts = fuzz(READERS[name], args.runs, args.seed, args.save / name)
        speed = args.runs / (time.perf_counter() - begun)
        print(f"{name}: {args.runs} files of seed {args.seed}, {speed:.0f} a second")
        print("\n".join(f"{count:9}  {what}" for what, count in sorted(counts.items())), flush=True)
        crashed += sum(count for what, count in counts.items() if what.startswith("crashed"))
    print(f"{crashed} crashed; see {args.save}" if crashed else "nothing crashed")
    return int(bool(crashed))


if __name__ == "__main__":
    sys.exit(main())
