"""Tries every hostile case on the real readers and stages, and prints what came of each kind.

    python tests/hostile/run.py [--seed 0] [--write] [--json FILE]

Images, odd names and tars go through fetch, validate, clean and split; tables through the GLDv2 source, served over
HTTP; params files through the door of the params. `--write` puts the table into docs/hostile-data.md. Exits with 1 if a
case hung, ended with another library's error, wrote outside the data folder, or went missing between two stages.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import pyarrow.parquet as pq
import yaml
from hostile.case import Result, tried
from hostile.csvs import Table, hostile_csvs
from hostile.folders import Put, put_all
from hostile.images import Made, hostile_images
from hostile.params_files import hostile_params
from hostile.tars import Tar, hostile_tars
from sources.gldv2_layout import serve, write_csv, write_layout, write_md5

from cairn.cleaning.scenes import read_outdoor
from cairn.files import read_json
from cairn.manifest import read_images, write_images, write_landmarks
from cairn.params import FolderParams, Gldv2Params, load_params
from cairn.shards import ShardReader, index_shard
from cairn.sources.folder import FolderSource
from cairn.sources.gldv2 import Gldv2Source

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "hostile-data.md"
BEGIN, END = "<!-- made by `make hostile` -->\n", "<!-- end -->\n"
STAGES = ("fetch", "validate", "clean", "split")
WRITTEN = ("build", "reports")  # where the stages may write
BELOW = Path("a/b/c")  # where a part works in the folder that is watched: as deep as its paths climb
CALM = {
    "threads": 1,
    "validate.min_decodable_share": 0.0,
    "validate.max_class_share": 1.0,
    "clean.workers": 1,
    "clean.min_class_size": 1,
}


class Fault(Exception):
    """What must not be: a count that does not add up, a file that was touched."""


def set_params(project: Path, changes: dict[str, Any]) -> None:
    """The project's own params with a few changed."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    for name, value in changes.items():
        block = content
        *path, last = name.split(".")
        for part in path:
            block = block[part]
        block[last] = value
    (project / "params.yaml").write_text(yaml.safe_dump(content))


def make_project(folder: Path, changes: dict[str, Any]) -> Path:
    """A folder in which the stages run."""
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "dvc.yaml", folder)
    for name in ("cairn", "stages"):
        (folder / name).symlink_to(ROOT / name)
    for name in WRITTEN:
        (folder / name).mkdir()
    set_params(folder, CALM | changes)
    return folder


def stage(project: Path, name: str) -> tuple[int, str]:
    """Run a stage's script as a command is run; its status and what it said. Another library's error goes through."""
    said, here, arguments = StringIO(), Path.cwd(), sys.argv
    os.chdir(project)
    sys.argv = [f"stages/{name}.py", "--no-mlflow"]
    try:
        with redirect_stderr(said), redirect_stdout(said):
            runpy.run_path(str(ROOT / "stages" / f"{name}.py"), run_name="__main__")
    except SystemExit as ended:
        return int(ended.code or 0), said.getvalue()
    finally:
        os.chdir(here)
        sys.argv = arguments
    return 0, said.getvalue()


def run_stages(project: Path) -> dict[str, Any]:
    """The four reports. Raises Fault if a stage fails, or if what one hands on is not what the next one says it got."""
    reports = {}
    for name in STAGES:
        status, said = stage(project, name)
        if status:
            raise Fault(f"{name} ended with {status}: {said}")
        reports[name] = read_json(project / "reports" / f"{name}.json")
    fetched, cleaned = reports["fetch"]["images"], reports["clean"]
    handed_on = {
        "validate looked at what was fetched": reports["validate"]["images"] == fetched,
        "clean was given what was fetched": cleaned["fetched"] == fetched,
        "kept and dropped are what was fetched": cleaned["kept"] + cleaned["dropped"] == fetched,
        "reasons are those of the dropped": sum(cleaned["reasons"].values()) == cleaned["dropped"],
        "sides are what was kept": sum(s["images"] for s in reports["split"]["sides"].values()) == cleaned["kept"],
    }
    if not all(handed_on.values()):
        raise Fault(f"counts do not add up: {handed_on} in {reports}")
    return reports


def fates(project: Path) -> dict[str, tuple[str, str]]:
    """Of each photo by its source name: kept, or set aside and for what; and the evidence."""
    dropped = pq.read_table(project / "build" / "clean" / "dropped.parquet").to_pylist()
    reasons = {row["image_id"]: (f"set aside: {row['reason']}", row["evidence"]) for row in dropped}
    kept = set(read_images(project / "build" / "clean")["image_id"].to_pylist())
    names = read_images(project / "build" / "raw").select(["image_id", "source_name"]).to_pylist()
    if kept & set(reasons) or kept | set(reasons) != {row["image_id"] for row in names}:
        raise Fault("a photo is neither kept nor set aside, or both")
    return {row["source_name"]: reasons.get(row["image_id"], ("kept", "")) for row in names}


def snapshot(folder: Path, without: Sequence[Path]) -> dict[bytes, tuple[int, int]]:
    """Size and time of change of everything below a folder but for what lies below `without`; of folders neither."""
    found, left, passed = {}, [os.fsencode(folder)], {os.fsencode(path) for path in without}
    while left:
        with os.scandir(left.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                inside = entry.is_dir(follow_symlinks=False)
                found[entry.path] = (0, 0) if inside else (status.st_size, status.st_mtime_ns)
                if inside and entry.path not in passed:
                    left.append(entry.path)
    return found


@contextmanager
def untouched(folder: Path, *without: Path) -> Iterator[None]:
    """Raises Fault if anything else below `folder` is another after the block."""
    before = snapshot(folder, without)
    yield
    after = snapshot(folder, without)
    changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    if changed:
        raise Fault(f"written outside the data folder: {changed[:5]}")


def watched(scratch: Path) -> Path:
    """The folder that is watched while a part works in `scratch`."""
    return scratch.parents[len(BELOW.parts) - 1]


def try_folder(scratch: Path, seed: int) -> list[Result]:
    """Images and odd names in one folder of landmarks, through the four stages."""
    photos, outside = scratch / "photos", scratch / "outside"
    (photos / "Images").mkdir(parents=True)
    outside.mkdir()
    images: list[Made] = list(hostile_images(seed))
    for made in images:
        with (photos / "Images" / made.name).open("xb") as file:
            file.write(made.content)
    puts: list[Put] = list(put_all(photos, outside, seed + 1))
    project = make_project(scratch / "folder", {"fetch.source": "folder", "fetch.folder.landmarks": str(photos)})
    with untouched(watched(scratch), *(project / name for name in WRITTEN)):
        reports = run_stages(project)
    fate = fates(project)
    results = [Result("images", made.kind, made.name, *fate[f"landmarks/Images/{made.name}"]) for made in images]
    for put in puts:
        shown = os.path.relpath(put.path, os.fsencode(photos)).decode("utf-8", "backslashreplace")
        outcome = fate.get(f"landmarks/{shown}", ("left out and counted", ""))
        if put.taken != (outcome[0] != "left out and counted"):
            raise Fault(f"{put.kind} {put.name}: {outcome}")
        results.append(Result("names and files", put.kind, put.name, *outcome))
    facts = reports["fetch"]["facts"]
    left = sum(
        facts[name] for name in ("outside_any_landmark", "not_photos", "hidden", "too_large", "links_not_followed")
    )
    if left != sum(not put.taken for put in puts):
        raise Fault(f"{left} entries are counted as left out: {facts}")
    wrong = [name for name in _names(project) if any(ord(letter) < 32 for letter in name)]
    if wrong:
        raise Fault(f"landmarks whose names act on a terminal: {wrong}")
    return results


def _names(project: Path) -> list[str]:
    names: list[str] = pq.read_table(project / "build" / "clean" / "landmarks.parquet")["name"].to_pylist()
    return names


def try_folder_params(scratch: Path) -> list[Result]:
    """Folders that are none, and files that go by one name."""
    good, twins = scratch / "good", scratch / "twins"
    for path in (good / "A" / "a.jpg", scratch / "loose" / "a.jpg", twins / "A" / r"\xff.jpg"):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
    Path(os.fsdecode(os.fsencode(twins / "A") + b"/\xff.jpg")).write_bytes(b"y")
    for name in ("nothing", "out", "keep"):
        (scratch / name).mkdir()
    os.mkfifo(scratch / "pipe")
    (scratch / "round").symlink_to("round")
    given: dict[str, tuple[Path | None, Path | None]] = {
        "null": (None, None),
        "not there": (scratch / "none", None),
        "a NUL in it": (Path("a\0b"), None),
        "a path of 5,000 bytes": (Path("x" * 5000), None),
        "a file": (good / "A" / "a.jpg", None),
        "a pipe": (scratch / "pipe", None),
        "a link to itself": (scratch / "round", None),
        "empty": (scratch / "nothing", None),
        "no landmark folders": (scratch / "loose", None),
        "distractors within landmarks": (good, good / "A"),
        "distractors not there": (good, scratch / "none"),
        "two files of one name": (twins, None),
    }

    def fetch(landmarks: Path | None, distractors: Path | None) -> str:
        source = FolderSource(FolderParams(landmarks=landmarks, distractors=distractors), 1.0)
        write_images(scratch / "out", source.fetch(scratch / "out", scratch / "keep").images)
        return "taken"

    with untouched(watched(scratch), scratch / "out", scratch / "keep"):
        return [
            tried("names and files", "fetch.folder", name, lambda both=both: fetch(*both))
            for name, both in given.items()
        ]


def try_tars(scratch: Path, seed: int) -> list[Result]:
    """Each tar by the reader of shards; those it takes, with all their photos, through the four stages."""
    tars, shards = list(hostile_tars(seed, watched(scratch) / "outside")), scratch / "shards"
    results, taken = list[Result](), list[tuple[Result, Tar]]()
    shards.mkdir(parents=True)
    for number, tar in enumerate(tars):
        path = shards / f"images_{number:03d}.tar"
        path.write_bytes(tar.content)
        with untouched(watched(scratch)):
            result = tried("tars", tar.kind, tar.name, lambda path=path: _indexed(path))
        results.append(result)
        if result.outcome.startswith("taken"):
            taken.append((result, tar))
    site = scratch / "site"
    for number, (_, tar) in enumerate(taken):
        path = site / "train" / f"images_{number:03d}.tar"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tar.content)
        write_md5(site, "train", number)
    ids = [key for _, tar in taken for key in tar.ids]
    rows = [[key, 7 + at % 3] for at, key in enumerate(ids)]
    write_csv(site / "metadata" / "train.csv", "id,landmark_id", rows)
    names = [[7, "=cmd|'/C calc'!A0"], [8, "Category:%1B%5B2J%0A<script>"], [9, "Category:%ff$\\frac{"]]
    write_csv(site / "metadata" / "train_label_to_category.csv", "landmark_id,category", names)
    with serve(site) as (url, _):
        source = {"fetch.source": "gldv2", "fetch.gldv2.base_url": url, "fetch.gldv2.labels": "full"}
        some = {"fetch.gldv2.first_shard": 0, "fetch.gldv2.last_shard": len(taken) - 1}
        project = make_project(scratch / "gldv2", source | some)
        with untouched(watched(scratch), *(project / name for name in WRITTEN)):
            reports = run_stages(project)
    add_up(reports["fetch"]["facts"])
    held = {name.rpartition("/")[2].partition(".")[0] for name in fates(project)}
    if held != set(ids):
        raise Fault(f"photos that shards hold and the manifest does not, or the other way round: {held ^ set(ids)}")
    return results


def _indexed(path: Path) -> str:
    """Every member is read; what it holds is for the decoder."""
    members = index_shard(path, path.parent)
    with ShardReader(path.parent) as reader:
        for member in members:
            reader.read(member.shard, member.offset, member.size)
    return "taken, what is no photo passed over"


def add_up(facts: dict[str, int]) -> None:
    """The equations of the GLDv2 source's counts. Raises Fault if they do not hold."""
    in_tars = facts["images"] + facts["not_listed"] + facts["repeated_in_tars"]
    if facts["images_in_tars"] != in_tars or facts["listed"] != facts["images"] + facts["missing_in_tars"]:
        raise Fault(f"counts of the source do not add up: {facts}")


def try_csvs(scratch: Path, seed: int) -> list[Result]:
    """Each table in the place of a sound one, by the GLDv2 source, over HTTP."""
    layout = write_layout(scratch / "tables", shards=1, seed=seed)
    tables: list[Table] = list(hostile_csvs(layout))
    results = []
    with serve(layout.root) as (url, _):
        for number, table in enumerate(tables):
            path = layout.root / table.path
            sound = path.read_bytes()
            path.write_bytes(table.content)
            folder = scratch / f"fetched_{number}"
            folder.mkdir()
            work = lambda table=table, folder=folder: _fetched(url, table, folder)  # noqa: E731
            with untouched(watched(scratch), folder):
                results.append(tried("tables", table.kind, table.name, work))
            path.write_bytes(sound)
            shutil.rmtree(folder)
    return results


def _fetched(url: str, table: Table, folder: Path) -> str:
    params = {"base_url": url, "first_shard": 0, "last_shard": 0, "workers": 1, "retries": 0, "timeout_s": 10}
    source = Gldv2Source(Gldv2Params.model_validate(params | table.params), backoff_s=0.001)
    fetched = source.fetch(folder / "out", folder / "keep")
    add_up(fetched.facts)
    write_images(folder / "out", fetched.images)
    write_landmarks(folder / "out", fetched.landmarks)
    names = fetched.landmarks["name"].to_pylist()
    if any(ord(letter) < 32 for name in names for letter in name):
        raise Fault(f"a name that acts on a terminal: {names}")
    return "taken"


def try_lists(scratch: Path) -> list[Result]:
    """Places365's list of scenes."""
    texts = {"no flag": b"/a/airfield\n", "a third flag": b"/a/airfield 3\n", "Latin-1": b"caf\xe9 2\n", "NUL": b"\0"}
    results = []
    for name, text in texts.items():
        path = scratch / f"{name}.txt"
        path.write_bytes(text)
        work = lambda path=path: f"taken: {len(read_outdoor(path))}"  # noqa: E731
        with untouched(watched(scratch)):
            results.append(tried("tables", "list of scenes", name, work))
    return results


def try_params(scratch: Path) -> list[Result]:
    """Each file by the door of the params."""
    results, path = [], scratch / "params.yaml"
    for given in hostile_params((ROOT / "params.yaml").read_text()):
        path.write_bytes(given.content)
        with untouched(watched(scratch)):
            results.append(tried("params", given.kind, given.name, lambda: _loaded(path)))
    path.unlink()
    for name, make in (("a folder", path.mkdir), ("a pipe", lambda: os.mkfifo(path)), ("nothing", lambda: None)):
        make()
        with untouched(watched(scratch)):
            results.append(tried("params", "no file", name, lambda: _loaded(path)))
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
    return results


def _loaded(path: Path) -> str:
    load_params(path)
    return "taken"


PARTS: dict[str, Callable[[Path, int], list[Result]]] = {
    "folder": try_folder,
    "roots": lambda folder, _: try_folder_params(folder),
    "tars": lambda folder, seed: try_tars(folder, seed + 2),
    "csvs": lambda folder, seed: try_csvs(folder, seed + 3),
    "lists": lambda folder, _: try_lists(folder),
    "params": lambda folder, _: try_params(folder),
}


def run_part(part: str, folder: Path, seed: int) -> list[Result]:
    """Its cases. Raises Fault for what must not be."""
    scratch = folder / part / BELOW
    scratch.mkdir(parents=True)
    (watched(scratch) / "outside").mkdir()
    with chdir(scratch):
        return PARTS[part](scratch, seed)


def table(results: Sequence[Result]) -> str:
    """Kind by kind, how many cases and what came of them, as a table in Markdown."""
    kinds = dict.fromkeys((result.part, result.kind) for result in results)
    lines = ["| | kind | cases | outcomes |", "|---|---|---|---|"]
    shown = None
    for part, kind in kinds:
        counts = Counter(result.outcome for result in results if (result.part, result.kind) == (part, kind))
        said = ", ".join(f"{outcome} {count}" for outcome, count in sorted(counts.items()))
        lines.append(f"| {part if part != shown else ''} | {kind} | {counts.total()} | {said} |")
        shown = part
    lines.append(f"| all | | {len(results)} | |")
    return "\n".join(lines) + "\n"


def written(text: str, made: str) -> str:
    """The page with `made` in the place of its table."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{made}\n{END}{rest.split(END)[1]}"


def main() -> int:
    """Try everything, print the table, say what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="put the table into docs/hostile-data.md")
    parser.add_argument("--json", type=Path, help="write every case and what came of it")
    args = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="cairn-hostile-"))
    try:
        results = [result for part in PARTS for result in run_part(part, scratch, args.seed)]
    finally:
        subprocess.run(["rm", "-rf", scratch], check=True)  # some folders are too deep for Python
    made = table(results)
    print(made)
    if args.json:
        args.json.write_text(json.dumps([result._asdict() for result in results], indent=1))
    if args.write:
        DOCS.write_text(written(DOCS.read_text(), made))
    wrong = [result for result in results if result.outcome in ("HANGS", "ANOTHER ERROR")]
    print("\n".join(str(result) for result in wrong) or f"{len(results)} cases, none of which did harm")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
