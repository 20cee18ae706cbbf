"""Every case of the corpus by the command that people run: nothing hangs, nothing is lost, and all is said clearly."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hostile.case import Result
from hostile.run import BEGIN, DOCS, END, PARTS, Fault, add_up, run_part, table, untouched, written

from cairn.shards import Member, index_shard

ROOT = Path(__file__).parents[2]
MOST_MEMORY = 3_000_000  # kB; with torch alone it is some 500,000
# What is to be named: of params the file, of tables the file or the server, of tars the file, of folders the param.
NAMED = {
    "params": r"params\.yaml: ",
    "tables": r"\.csv: |\.txt|http://",
    "tars": r"images_\d+\.tar: ",
    "names and files": r"fetch\.folder\.|are both called",
}
WAY_OUT = (
    r"; (check|fetch it|mend it|run|put|move|rename|null leaves|set|`make)|run `dvc repro fetch` again|no such param|"
    r"missing|Input should|must be|Keys should"
)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    folder = tmp_path_factory.mktemp("hostile")
    command = [sys.executable, str(ROOT / "tests" / "hostile" / "run.py"), "--json", str(folder / "results.json")]
    environment = {**os.environ, "TMPDIR": str(folder), "HOME": str(folder / "home"), "MPLCONFIGDIR": str(folder)}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, (folder / "log").read_text()[-3000:]
    assert usage.ru_maxrss < MOST_MEMORY
    return [Result(**row) for row in json.loads((folder / "results.json").read_text())]


def test_there_are_many_cases_and_no_two_go_by_one_name(results: list[Result]) -> None:
    assert len(results) >= 400
    names = [(result.part, result.kind, result.name) for result in results]
    assert len(set(names)) == len(names)


def test_what_stops_names_the_file_and_the_way_out_and_stays_short(results: list[Result]) -> None:
    stopped = [result for result in results if result.outcome.startswith("stopped")]
    assert len(stopped) > 100
    for result in stopped:
        assert re.search(NAMED[result.part], result.said), result
        assert re.search(WAY_OUT, result.said), result
        assert len(result.said) < 6000, result


def test_what_is_set_aside_has_evidence(results: list[Result]) -> None:
    aside = [result for result in results if result.outcome.startswith("set aside")]
    assert len(aside) > 100
    assert [result for result in aside if not result.said] == []


def test_sound_photos_are_kept(results: list[Result]) -> None:
    sound = {"whole", "animated", "EXIF-rotated", "ICC garbage", "wrong ending"}
    outcomes = {result.outcome for result in results if result.part == "images" and result.kind in sound}
    assert outcomes == {"kept"}


def test_the_table_in_the_docs_is_what_came(results: list[Result]) -> None:
    text = DOCS.read_text()
    assert written(text, table(results)) == text, "run `make hostile`"


def test_a_file_written_beside_would_be_seen(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with untouched(tmp_path, tmp_path / "data"):
        (tmp_path / "data" / "file").touch()
    with pytest.raises(Fault, match="beside"), untouched(tmp_path, tmp_path / "data"):
        (tmp_path / "beside").touch()


READERS = {
    "folder": "run_stages",
    "roots": "FolderSource",
    "tars": "index_shard",
    "csvs": "Gldv2Source",
    "lists": "read_outdoor",
    "params": "load_params",
}


@pytest.mark.parametrize("where", ["outside", "a", "a/b/c"])
@pytest.mark.parametrize("part", PARTS)
def test_a_reader_that_writes_outside_would_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, where: str
) -> None:
    def writing(*_: object, **__: object) -> None:
        (tmp_path / part / where / "evil.jpg").touch()

    monkeypatch.setattr("hostile.run.put_all", lambda *_: [])  # some folders are too deep for pytest
    monkeypatch.setattr(f"hostile.run.{READERS[part]}", writing)
    with pytest.raises(Fault, match=f"{where}/evil.jpg"):
        run_part(part, tmp_path, 0)


@pytest.mark.parametrize("paths", ["/", "../", "linked"])
def test_a_reader_that_unpacks_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paths: str) -> None:
    def unpacking(path: Path, root: Path) -> list[Member]:
        members = index_shard(path, root)
        with tarfile.open(path) as tar:
            tar.extractall(root, [item for item in tar if item.name.startswith(paths)], filter="fully_trusted")
        return members

    monkeypatch.setattr("hostile.run.index_shard", unpacking)
    with pytest.raises(Fault, match="evil"):
        run_part("tars", tmp_path, 0)


def test_counts_that_do_not_add_up_would_be_seen() -> None:
    right = {
        "images": 2,
        "not_listed": 1,
        "repeated_in_tars": 0,
        "images_in_tars": 3,
        "listed": 4,
        "missing_in_tars": 2,
    }
    add_up(right)
    for name in right:
        with pytest.raises(Fault):
            add_up(right | {name: 9})


def test_the_table_counts_each_kind() -> None:
    some = [Result("a", "k", "1", "x"), Result("a", "k", "2", "y"), Result("a", "k", "3", "x")]
    assert table(some).splitlines()[2] == "| a | k | 3 | x 2, y 1 |"
    assert written(f"1\n{BEGIN}old{END}2\n", "new\n") == f"1\n{BEGIN}\nnew\n\n{END}2\n"
