"""Run the pipeline in two clones that share no cache, the second one elsewhere in every way, and compare the bytes.

PYTHONPATH=tests python -m whole.verify

The second clone lies in another folder and runs as another user, on one core, with another locale, time zone, clock,
hash seed and order of the entries of folders; it logs to MLflow, is killed in the middle of some stages and goes on.
dvc.lock, every out, and what a real Triton server answers on both exports, photo by photo, must be the same to the
byte. Ends with status 1 otherwise, and where a stage was over before it could be killed; `--one-by-one` then says which
change it was.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pipeline.served import tested
from whole.project import LOGGED, ROOT, clone, differences, result, stages
from whole.running import NOBODY, Run, given_to, no_other_user

from cairn.client import Answer, Client
from cairn.serving.server import default_server_env, running_server

MAY_DIFFER = {
    "`build/plans/`, `model.plan`": "a TensorRT plan belongs to one version and one kind of GPU; the ONNX files do not",
    "`mlflow.db`, `mlartifacts/`": "a log: run ids, times, the user's name",
    "`build/data_docs/`": "for people: times and run ids of great-expectations",
    "`.dvc/tmp/`, `.dvc/cache/runs/`": "DVC's notes; every object in its cache is named by its hash",
}
KILLED_IN = ("clean", "train", "evaluate")
CLOCK_OFFSET_S = -11 * 365.25 * 86400
LOCALES = "locales"  # the folder in which they are made
LOCALE = "tr_TR.UTF-8"  # Turkish has another capital of i, and a comma for the decimal point


@dataclass(frozen=True)
class Elsewhere:
    """What is different about a run."""

    folder: str = "clone"
    user: int | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    killed_in: Sequence[str] = ()
    one_core: bool = False


def changes(work: Path) -> dict[str, Elsewhere]:
    """Each way to be elsewhere by its name. What they need is made in `work`."""
    python = {"PYTHONPATH": str(Path(__file__).parent / "elsewhere")}
    found = {
        "another folder": Elsewhere(folder="another place, über there"),
        "another time zone": Elsewhere(variables={"TZ": "Pacific/Chatham"}),
        "another clock": Elsewhere(variables={"CAIRN_CLOCK_OFFSET_S": str(CLOCK_OFFSET_S), **python}),
        "another order of folders": Elsewhere(variables={"CAIRN_SHUFFLE": "7", **python}),
        "another hash seed": Elsewhere(variables={"PYTHONHASHSEED": "12345"}),
        "logged to MLflow": Elsewhere(variables=LOGGED),
        "killed and gone on": Elsewhere(killed_in=KILLED_IN),
    }
    if no_other_user() is None:
        found["another user"] = Elsewhere(user=NOBODY)
    if no_other_locale(work / LOCALES) is None:
        found["another locale"] = Elsewhere(variables=in_locale(LOCALE, work / LOCALES))
    if len(os.sched_getaffinity(0)) > 1:
        found["one core"] = Elsewhere(one_core=True)
    return found


def in_locale(name: str, folder: Path) -> dict[str, str]:
    """The variables of a process that runs under a locale made in `folder`."""
    return {"LOCPATH": str(folder), "LANG": name, "LC_ALL": name}


def no_other_locale(folder: Path, wanted: str | None = None) -> str | None:
    """Have glibc make a locale, LOCALE if none is named, in `folder`. Returns why it cannot be made, none if it can."""
    wanted = wanted or LOCALE
    if (folder / wanted).exists():
        return None
    if shutil.which("localedef") is None:
        return "another locale wants localedef"
    folder.mkdir(parents=True, exist_ok=True)
    name, charset = wanted.split(".")
    command = ["localedef", "-i", name, "-f", charset, str(folder / wanted)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"another locale wants the source of {wanted}: {done.stderr.strip()}"


def together(every: Mapping[str, Elsewhere]) -> Elsewhere:
    """All changes in one run."""
    variables: dict[str, str] = {}
    for one in every.values():
        variables |= one.variables
    return Elsewhere(
        folder=next((one.folder for one in every.values() if one.folder != "clone"), "clone"),
        user=next((one.user for one in every.values() if one.user is not None), None),
        variables=variables,
        killed_in=tuple(stage for one in every.values() for stage in one.killed_in),
        one_core=any(one.one_core for one in every.values()),
    )


def cloned(work: Path, how: Elsewhere, tiny: bool) -> Run:
    """A clone of the project in `work`, ready to run as `how` says."""
    folder = work / how.folder
    folder.mkdir(parents=True)
    clone(folder)
    if not tiny:
        shutil.copy(ROOT / "params.yaml", folder)
    variables = dict(how.variables)
    if "PYTHONPATH" in variables:
        variables["PYTHONPATH"] += f"{os.pathsep}{folder}"
    run = Run(folder, how.user, variables, how.one_core)
    run.environment()
    given_to(folder, how.user)
    return run


def made(
    work: Path, how: Elsewhere, tiny: bool, halves: Mapping[str, float]
) -> tuple[Path, dict[str, float], list[str]]:
    """A clone in which all stages have run, the seconds of a processor of each, and which kills did not happen.

    It is killed at `halves` of those seconds.
    """
    run, missed = cloned(work, how, tiny), []
    for stage in how.killed_in:
        if run.killed(stage, halves[stage]):
            print(f"  killed in {stage}", flush=True)
        else:
            missed.append(f"{stage} ended before it was killed")
        nothing_from_elsewhere(run)
    status, used = run.measured(list(stages(run.folder)))
    if status != 0:
        raise SystemExit(f"the pipeline failed in {run.folder}:\n{run.said()[-3000:]}")
    nothing_from_elsewhere(run)
    return run.folder, used, missed


def nothing_from_elsewhere(run: Run) -> None:
    """A stage that DVC took from a cache would prove nothing."""
    if "is cached - skipping run" in run.said():
        raise SystemExit(f"DVC took a stage from a cache in {run.folder}:\n{run.said()[-3000:]}")


def answers(folder: Path) -> list[str]:
    """What a server says of each photo of the test side, one request a photo, every number in full."""
    _, photos = tested(folder)
    said = []
    with running_server(folder / "triton_repo", default_server_env()) as address, Client(address, 300.0) as client:
        for photo in photos:  # alone: the last bits of a vector may depend on what else is in its batch
            (outcome,) = client.query([photo])
            vector = client.embeddings([photo]).tobytes().hex()
            said.append(repr((asdict(outcome) if isinstance(outcome, Answer) else str(outcome), vector)))
    return said


def compared(first: Path, second: Path, served: Sequence[str] | None) -> list[str]:
    """What differs between two clones; `served` are the answers of the first, none if nothing is to be asked."""
    wrong = differences(result(first), result(second))
    if served is not None:
        other = answers(second)
        count = sum(one != another for one, another in zip(served, other, strict=True))
        wrong += [f"{count} of {len(other)} served answers"] if count else []
    return wrong


def verify(work: Path, tiny: bool, serve: bool, one_by_one: bool) -> dict[str, list[str]]:
    """What is wrong with each run elsewhere."""
    every = changes(work)
    runs = every if one_by_one else {", ".join(every): together(every)}
    print("the first run", flush=True)
    first, used, _ = made(work / "first", Elsewhere(), tiny, {})
    served = answers(first) if serve else None
    halves = {stage: seconds / 2 for stage, seconds in used.items()}
    found = {}
    for number, (name, how) in enumerate(runs.items()):
        print(f"elsewhere: {name}", flush=True)
        second, _, missed = made(work / f"second-{number}", how, tiny, halves)
        found[name] = missed + [f"differs: {what}" for what in compared(first, second, served)]
        print(f"  {', '.join(found[name]) or 'the same bytes'}", flush=True)
    files = result(first)
    print(f"{len(files)} files of outs and reports and dvc.lock compared, {len(served or [])} served answers")
    return found


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a hundred small photos in place of params.yaml's data")
    parser.add_argument("--no-server", action="store_true", help="ask no server")
    parser.add_argument("--one-by-one", action="store_true", help="a run for each change, in place of one for all")
    return parser


def main() -> int:
    """Run, print, and give the exit status."""
    args = parser().parse_args()
    start = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix="cairn-verify-"))
    work.chmod(0o755)  # another user comes here too
    found = verify(work, args.tiny, not args.no_server, args.one_by_one)
    no_other_cores = "one core: there is no more than one" if len(os.sched_getaffinity(0)) == 1 else None
    for reason in filter(None, (no_other_user(), no_other_locale(work / LOCALES), no_other_cores)):
        print(f"skipped: {reason}")
    print("the clock is that of Python's `time` alone")
    print("may differ, and is not compared:")
    for what, why in MAY_DIFFER.items():
        print(f"  {what.replace('`', '')}: {why}")
    wrong = {name: what for name, what in found.items() if what}
    print(f"{'NOT the same, or not killed' if wrong else 'the same bytes'}, {time.monotonic() - start:.0f} s")
    if wrong:
        print(f"the clones are in {work}")
    else:
        shutil.rmtree(work)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
