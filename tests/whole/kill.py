"""Disturb `dvc repro` anywhere, run it once more, and hold what comes out to that of a run that nobody disturbed.

PYTHONPATH=tests python -m whole.kill --kills 60 --seed 1 --csv kills.csv

kills: SIGKILL to all of its processes, at a drawn share of the processor time that the stage takes undisturbed; every
  fourth resumed run is killed again, at a share of what was left. Where a run ended first the moment is drawn again.
  In every third trial of a stage the stages log to MLflow, as they do by default
disk: a file system without room for what the stage makes is mounted at build/ (wants root and Linux)
rights: an input cannot be read, or build/ cannot be written, by a user that is not root
network: the server of photos drops connections, or is gone, while fetch reads from it

Each begins where the stages before it are done; those after it may come from DVC's run cache, since that asks for
inputs of the same bytes. Afterwards one more `dvc repro` must end with the same bytes, nothing half-written may be in
DVC's cache, and nothing left over. Where DVC left its own notes half-written, which it cannot read, what `make repro`
does about it (`python -m cairn.killed`) comes first; such kills are counted. Ends with status 1 where that is not so,
or where a stage was never killed. With --csv a file of an earlier run with the same seed is gone on with.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from sources.gldv2_layout import serve, write_layout
from whole.project import LOGGED, ROOT, TINY_DATA, clone, differences, hashes, outs, result, stages
from whole.running import NOBODY, PATIENCE_S, POLL_S, Run, given_to, no_other_user

from cairn.composing import compose
from cairn.files import discard, md5_of, read_json
from cairn.killed import mend
from cairn.progress import progress
from cairn.stage import BUILD, FINISHED, PARTIAL
from cairn.tracking import DATABASE

DRAWS = [
    *TINY_DATA,
    "train.scratch.epochs=2",
    "train.checkpoint_steps=2",
    "evaluate.draws=1",
    "index.type='IVF4,SQfp16'",
]
BY_DVC = ("No possible cache link types", "': [Errno 13] Permission denied: '", "': [Errno 28] No space left on device")
KINDS = ("kills", "disk", "rights", "network")
AGAIN = 4  # every so-manieth kill is followed by another in the resumed run
LOGGED_EVERY = 3  # so-manieth kill of a stage
TIMES = 4  # that a moment is drawn at most, until the kills happen
MISSED = "was done already"
ROOM_MB = 512  # of the file system at build/ when there is room again


@dataclass(frozen=True)
class Disturbance:
    """One trial. `shares`: of the stage's time after which it is killed, and of what is then left of it for the second
    kill; or of its room on the disk.
    """

    kind: str
    stage: str
    shares: tuple[float, ...]
    logged: bool = False

    @property
    def moment(self) -> str:
        """For people, and to find it in a file."""
        return " then ".join(f"{share:.3f}" for share in self.shares) + self.logged * ", logged"


@dataclass(frozen=True)
class Row:
    """What became of a disturbance."""

    kind: str
    stage: str
    moment: str
    left: str
    said: str
    outcome: str
    seconds: float

    @property
    def missed(self) -> bool:
        """Whether a run ended before it was killed."""
        return MISSED in self.left.split(" | ")


@dataclass(frozen=True)
class Undisturbed:
    """A run in which nothing happened, with a copy of the project before each stage."""

    work: Path
    wanted: dict[str, str]
    seconds: dict[str, float]  # of a processor, of each stage from its start to what DVC writes down of it
    logging: float  # seconds that a stage takes longer if it logs to MLflow, which then begins a database

    @property
    def order(self) -> list[str]:
        """The stages."""
        return list(self.seconds)

    def before(self, stage: str) -> Path:
        """The project before a stage."""
        return self.work / "before" / stage

    def after(self, stage: str) -> Path:
        """The project after a stage."""
        at = self.order.index(stage) + 1
        return self.before(self.order[at]) if at < len(self.order) else self.work / "undisturbed"


def undisturbed(work: Path, last: str) -> Undisturbed:
    """The run up to the stage `last` that all others are held to, made if `work` has none that is whole."""
    folder, notes = work / "undisturbed", work / "undisturbed.json"
    if notes.exists():
        return Undisturbed(work, result(folder), **read_json(notes))
    for path in (folder, work / "before", work / "logged"):
        discard(path)
    folder.mkdir()
    clone(folder)
    compose(folder, folder / "params.yaml", DRAWS)
    run = Run(folder)
    order, seconds = [*stages(folder)][: [*stages(folder)].index(last) + 1], {}
    for stage in progress(order, "undisturbed", unit="stage"):
        copied(folder, work / "before" / stage)
        status, used = run.measured([stage], "--single-item", stage)
        assert status == 0, f"{status}: {run.said()[-3000:]}"
        seconds |= used
    known = {"seconds": seconds, "logging": logged_s(work, order[0]) - seconds[order[0]]}
    notes.write_text(json.dumps(known))
    return Undisturbed(work, result(folder), **known)


def logged_s(work: Path, stage: str) -> float:
    """The seconds of a processor that a stage takes which logs to MLflow."""
    run = Run(copied(work / "before" / stage, work / "logged"), variables=LOGGED)
    status, used = run.measured([stage], "--single-item", stage)
    assert status == 0, f"{status}: {run.said()[-3000:]}"
    return used[stage]


def copied(source: Path, target: Path) -> Path:
    """A copy with links among the files as they are."""
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "--archive", str(source), str(target)], check=True)
    return target


def prepared(base: Undisturbed, stage: str, name: str) -> Path:
    """The project before `stage`, with all that DVC's cache will hold of the stages after it."""
    folder = copied(base.before(stage), base.work / "trials" / name)
    cache, known = base.work / "undisturbed" / ".dvc" / "cache", base.after(stage) / ".dvc" / "cache"
    for file in (path for path in cache.rglob("*") if path.is_file()):
        place = file.relative_to(cache)
        if not (known / place).exists():
            target = folder / ".dvc" / "cache" / place
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target)
    return folder


def left_by(base: Undisturbed, stage: str, folder: Path) -> str:
    """Which of the stage's outs a disturbed run left, and what it can go on from."""
    paths = outs(stages(folder)[stage])
    found = []
    for path in paths:
        there = hashes(folder, [path])
        if there:
            whole = there == {name: base.wanted[name] for name in base.wanted if _within(name, path)}
            found.append("whole" if whole else "part")
    kept = [path for path in (folder / "build" / ".partial").rglob("*") if path.is_file()]
    words = [f"{found.count(kind)} {kind}" for kind in ("whole", "part") if kind in found]
    words += [f"{sum(path.stat().st_size for path in kept) / 1e3:.0f} kB to go on from"] if kept else []
    return ", ".join(words) or "nothing"


def _within(name: str, path: str) -> bool:
    return name == path or name.startswith(f"{path}/")


def faults(wanted: dict[str, str], found: dict[str, str], folder: Path) -> list[str]:
    """What is wrong after the last run."""
    wrong = [f"other bytes: {name}" for name in differences(wanted, found)]
    objects = (path for path in (folder / ".dvc" / "cache" / "files" / "md5").glob("*/*") if path.is_file())
    wrong += [f"broken in the cache: {path.name}" for path in objects if not _whole_object(path)]
    built = [folder / "build", folder / "triton_repo", folder / "reports"]
    asides = [path for place in built for path in place.rglob(".*.aside")]
    partial = (folder / "build" / ".partial").glob("*")  # that of a finished run goes when the next stage begins
    left = [*asides, *(path for path in partial if not (path / FINISHED).exists())]
    return wrong + [f"left over: {path.relative_to(folder)}" for path in left]


def _whole_object(path: Path) -> bool:
    return md5_of(path) == path.parent.name + path.name.removesuffix(".dir")


def ended(base: Undisturbed, run: Run) -> str:
    """Run once more; `same`, or what is wrong."""
    if run.to_its_end(base.order[-1]) != 0:
        return f"does not run again: {last_words(run)}"
    wrong = faults(base.wanted, result(run.folder), run.folder)
    return "; ".join(wrong[:5]) or "same"


def last_words(run: Run) -> str:
    """What a failed run said, without DVC's own way of saying that a stage failed, in one line."""
    lines = [line.split("\r")[-1].strip() for line in run.said().splitlines()]
    told = [line for line in lines if line and not line.startswith((">", "Running stage", "Stage '", "(CAIRN_"))]
    return " / ".join(told[-4:])[-600:]


def kill(base: Undisturbed, one: Disturbance, folder: Path) -> tuple[str, str, str]:
    """Killed at each of its shares of the stage's time, or of what is left of it where it can be gone on with."""
    run, seconds = Run(folder, variables=LOGGED if one.logged else {}), base.seconds[one.stage]
    seconds += max(0.0, base.logging) * one.logged
    left, mended = [], []
    for share in one.shares:
        killed = run.killed(one.stage, share * seconds, base.order[-1])
        left.append(left_by(base, one.stage, folder) if killed else MISSED)
        seconds *= 1 - share
        mended += mend(folder)
    outcome = ended(base, run)
    if outcome == "same" and (folder / DATABASE).exists() != one.logged:
        outcome = f"{DATABASE} is {'missing' if one.logged else 'there'}"
    return " | ".join(left), "; ".join(mended), outcome


def fill_disk(base: Undisturbed, one: Disturbance, folder: Path) -> tuple[str, str, str]:
    """No room in build/ for more than a share of what the stage adds to it."""
    run, build, kept = Run(folder), folder / "build", folder / "kept"
    build.mkdir(exist_ok=True)
    discard(folder / PARTIAL)  # of finished stages: the next one to begin removes it, and has its room
    build.rename(kept)
    build.mkdir()
    grown = size_of(base.after(one.stage)) - size_of(base.before(one.stage))
    with mounted(build):
        subprocess.run(["cp", "--archive", f"{kept}/.", str(build)], check=True)
        room = os.statvfs(build)
        used = (room.f_blocks - room.f_bfree) * room.f_frsize
        resized(build, used + max(4096, int(grown * one.shares[0])))
        status = run.to_its_end(base.order[-1])
        left, said = left_by(base, one.stage, folder), last_words(run)
        resized(build, ROOM_MB * 2**20)
        outcome = told(status, said, "make room") or ended(base, run)
    return left, said, outcome


def size_of(project: Path) -> int:
    """Bytes of all files in build/, but for what stages go on from."""
    files = [path for path in (project / BUILD).rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files if not path.is_relative_to(project / PARTIAL))


@contextlib.contextmanager
def mounted(place: Path) -> Iterator[None]:
    """A file system in memory at `place`."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM_MB}m", "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def resized(place: Path, size: int) -> None:
    """Give the file system another size in bytes."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True)


def told(status: int, said: str, why: str) -> str | None:
    """What is wrong with how a run failed, if anything: it must fail, and say why and what to do.

    Where DVC itself failed, it must be with a message that docs/same-bytes.md has the way out of.
    """
    if status == 0:
        return "did not fail"
    if any(words in said for words in BY_DVC):
        return None
    missing = [words for words in (why, "dvc repro") if words not in said]
    return f"its message lacks: {', '.join(missing)}" if missing else None


def take_rights(base: Undisturbed, one: Disturbance, folder: Path) -> tuple[str, str, str]:
    """An input of the stage cannot be read; for a share under a half, and for fetch, build/ cannot be written."""
    user = NOBODY if os.geteuid() == 0 else None
    (folder / "build").mkdir(exist_ok=True)
    given_to(folder, user)
    inputs = [name for name in stages(folder)[one.stage]["deps"] if name.startswith("build/")]
    files = sorted(file for name in inputs for file in [folder / name, *(folder / name).rglob("*")] if file.is_file())
    if one.shares[0] < 0.5:
        files = []
    target = files[int(one.shares[0] * len(files))] if files else folder / "build"
    before = target.stat().st_mode
    target.chmod(0o000 if files else 0o555)
    run = Run(folder, user)
    status = run.to_its_end(base.order[-1])
    left, said = left_by(base, one.stage, folder), last_words(run)
    target.chmod(before)
    return f"{target.relative_to(folder)}: {left}", said, told(status, said, "Permission denied") or ended(base, run)


TRIALS: dict[str, Callable[[Undisturbed, Disturbance, Path], tuple[str, str, str]]] = {
    "kills": kill,
    "disk": fill_disk,
    "rights": take_rights,
}


def disturb(base: Undisturbed, one: Disturbance) -> Row:
    """One trial from its folder to its row; the folder goes if all was well."""
    start = time.monotonic()
    folder = prepared(base, one.stage, f"{one.kind}-{one.stage}-{one.moment.replace(' ', '_')}")
    left, said, outcome = TRIALS[one.kind](base, one, folder)
    if outcome == "same":
        shutil.rmtree(folder)
    return Row(one.kind, one.stage, one.moment, left, said, outcome, round(time.monotonic() - start, 1))


def network(work: Path, rng: np.random.Generator) -> Iterator[Row]:
    """fetch from a server that drops every connection, and from one that is gone; then it is there again."""
    layout = write_layout(work / "server", per_shard=20)
    with serve(layout.root) as (url, _):
        given = {"fetch.gldv2.base_url": url, "fetch.gldv2.last_shard": 2, "fetch.gldv2.retries": 1}
        more = {"fetch.source": "gldv2", "fetch.gldv2.labels": "full", "fetch.gldv2.workers": 1}
        draws = [*DRAWS, *(f"{name}={value}" for name, value in (given | more).items())]
        folder = work / "network" / "undisturbed"
        folder.mkdir(parents=True)
        clone(folder)
        compose(folder, folder / "params.yaml", draws)
        copied(folder, work / "network" / "dropped")
        copied(folder, work / "network" / "gone")
        assert Run(folder).to_its_end("fetch") == 0, Run(folder).said()[-3000:]
        wanted = result(folder)
    port = int(url.rsplit(":", 1)[1])
    name = "train/images_001.tar"
    size = (layout.root / name).stat().st_size
    for case in ("dropped", "gone"):
        start, run, share = time.monotonic(), Run(work / "network" / case), float(rng.random())
        with serve(layout.root, port) as (_, manners):
            # The first bytes come, then nothing: of a dropped connection each time anew.
            manners.cut_after[name], manners.cuts[name] = int(size * share), 1
            if case == "dropped":
                manners.unavailable["train/images_002.tar"] = 1000
                status = run.to_its_end("fetch")
            else:
                process = run.start("fetch")
                while manners.requests[name] == 0 and process.poll() is None:
                    time.sleep(POLL_S)
        if case == "gone":
            status = process.wait(PATIENCE_S)
        said = last_words(run)
        partial = [path for path in (run.folder / "build" / ".partial").rglob("*") if path.is_file()]
        left = f"{sum(path.stat().st_size for path in partial) / 1e3:.0f} kB to go on from"
        outcome = told(status, said, "http://")
        with serve(layout.root, port):
            if outcome is None and run.to_its_end("fetch") != 0:
                outcome = f"does not run again: {last_words(run)}"
        outcome = outcome or "; ".join(faults(wanted, result(run.folder), run.folder)[:5]) or "same"
        yield Row("network", "fetch", f"{case} {share:.3f}", left, said, outcome, round(time.monotonic() - start, 1))


def drawn(kinds: Iterable[str], kills: int, seed: int, order: Sequence[str], time: int = 0) -> list[Disturbance]:
    """Spread over the stages in `order`; the same seed, the same ones. The `time` before, each had another moment."""
    rng = np.random.default_rng([seed, time])
    every = []
    for at in range(kills):
        turn, stage = divmod(at, len(order))
        shares = tuple(rng.random(2 if at % AGAIN == AGAIN - 1 else 1).tolist())
        every.append(Disturbance("kills", order[stage], shares, logged=(turn + stage) % LOGGED_EVERY == 0))
    every += [Disturbance(kind, stage, (float(rng.random()),)) for kind in ("disk", "rights") for stage in order]
    return [one for one in every if one.kind in kinds]


def outstanding(rows: Iterable[Row], draws: Sequence[Sequence[Disturbance]]) -> list[Disturbance]:
    """Of each trial the first draw that was not tried, if none before it was killed as often as it was to be."""
    tried = {(row.kind, row.stage, row.moment): row for row in rows}
    found = []
    for trial in zip(*draws, strict=True):
        for one in trial:
            row = tried.get((one.kind, one.stage, one.moment))
            if row is None:
                found.append(one)
            if row is None or not row.missed:
                break
    return found


def happened(rows: Iterable[Row]) -> Counter[tuple[str, int]]:
    """How often each stage was killed: (stage, 0) in its first run, (stage, 1) in the resumed one."""
    kills = [row for row in rows if row.kind == "kills"]
    return Counter((row.stage, at) for row in kills for at, left in enumerate(row.left.split(" | ")) if left != MISSED)


def never(rows: Iterable[Row], wanted: Iterable[Disturbance]) -> list[str]:
    """The stages that were to be killed, or killed again, and never were."""
    planned = {(one.stage, at) for one in wanted if one.kind == "kills" for at in range(len(one.shares))}
    return [f"{stage} was never killed{' again' if at else ''}" for stage, at in sorted(planned - set(happened(rows)))]


def impossible() -> dict[str, str]:
    """The kinds that cannot be had here, and why."""
    why = {}
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("mount") is None:
        why["disk"] = "mounting a small file system needs root on Linux"
    elif not _can_mount():
        why["disk"] = "this root may not mount (a container without CAP_SYS_ADMIN)"
    if os.geteuid() == 0 and (reason := no_other_user()) is not None:
        why["rights"] = f"root reads everything, and {reason}"
    return why


def _can_mount() -> bool:
    with tempfile.TemporaryDirectory() as place:
        command = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", place]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            return False
        subprocess.run(["umount", place], check=True)
        return True


def known(path: Path | None) -> list[Row]:
    """The rows of an earlier run."""
    if path is None or not path.exists():
        return []
    with path.open(newline="") as file:
        return [Row(**{**row, "seconds": float(row["seconds"])}) for row in csv.DictReader(file)]


def write(path: Path | None, rows: Sequence[Row]) -> None:
    """All rows so far."""
    if path is not None:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, [item.name for item in fields(Row)])
            writer.writeheader()
            writer.writerows(asdict(row) for row in rows)


def show(row: Row) -> None:
    """One line, and what was said below it."""
    print(f"{row.kind:8}{row.stage:10}{row.moment:24}{row.left[:58]:60}{row.outcome}", flush=True)
    if row.said:
        print(f"{'':18}it said: {row.said[-300:]}", flush=True)


def run_all(
    work: Path, kinds: Sequence[str], named: Sequence[str], kills: int, seed: int, jobs: int, table: Path | None
) -> list[Row]:
    """Every trial of the stages `named`, in their order, that the table has not; all rows."""
    rows = known(table)
    base = undisturbed(work, named[-1])
    draws = [drawn(kinds, kills, seed, named, time) for time in range(TIMES)]

    def note(row: Row) -> None:
        rows.append(row)
        write(table, rows)
        show(row)

    while todo := outstanding(rows, draws):
        with ThreadPoolExecutor(jobs) as pool:
            for row in progress(pool.map(lambda one: disturb(base, one), todo), "disturbed", len(todo), "run"):
                note(row)
    if "network" in kinds and "network" not in {row.kind for row in rows}:
        for row in network(work, np.random.default_rng(seed)):
            note(row)
    return rows


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    order = list(stages(ROOT))
    parser.add_argument("--stages", nargs="+", choices=order, default=order, metavar="STAGE", help="all, if not given")
    parser.add_argument("--kills", type=int, default=60, help="over all those stages")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--jobs", type=int, default=1, help="trials at a time")
    parser.add_argument("--work", type=Path, help="an empty folder, or one of an earlier run; it stays")
    parser.add_argument("--csv", type=Path, help="write the table here, and go on with what it has")
    return parser


def main() -> int:
    """Run, print, and give the exit status."""
    args, order = parser().parse_args(), list(stages(ROOT))
    skipped = {kind: why for kind, why in impossible().items() if kind in args.only}
    kinds = [kind for kind in args.only if kind not in skipped]
    start = time.monotonic()
    work = args.work or Path(tempfile.mkdtemp(prefix="cairn-kill-"))
    work.mkdir(parents=True, exist_ok=True)
    work.chmod(0o755)  # another user comes here too
    discard(work / "trials")
    discard(work / "network")
    named = [stage for stage in order if stage in args.stages]
    rows = run_all(work, kinds, named, args.kills, args.seed, args.jobs, args.csv)
    for kind, why in skipped.items():
        print(f"skipped: {kind}: {why}")
    wrong = [row for row in rows if row.outcome != "same"]
    unkilled = never(rows, drawn(kinds, args.kills, args.seed, named))
    killed, counts = happened(rows), Counter(row.kind for row in rows)
    if "kills" in kinds:
        print("kills: " + ", ".join(f"{stage} {killed[stage, 0]} and {killed[stage, 1]} again" for stage in named))
        print(f"DVC's own notes were half-written after {sum(row.kind == 'kills' and row.said != '' for row in rows)}")
    print("".join(f"{what}\n" for what in unkilled), end="")
    print(
        f"{killed.total()} kills; runs: {json.dumps({kind: counts[kind] for kind in KINDS})}, seed {args.seed}: "
        f"{len(wrong)} with a fault, {time.monotonic() - start:.0f} s"
    )
    if wrong:
        print(f"what they left is in {work / 'trials'}")
    elif args.work is None:
        shutil.rmtree(work)
    return 1 if wrong or unkilled else 0


if __name__ == "__main__":
    sys.exit(main())
