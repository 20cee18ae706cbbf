"""The harness of `make kill` on the first stages: a few disturbances for real, and that it sees what is wrong."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from whole import kill, verify
from whole.kill import MISSED, TIMES, Row, drawn, faults, happened, impossible, known, never, outstanding, told, write
from whole.project import ROOT, environment, stages
from whole.running import Run

SMALL = ["--stages", "validate", "split", "--kills", "2", "--only", "kills", "disk", "rights"]


def test_killed_without_room_and_without_rights_one_more_run_ends_the_same(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    command = [sys.executable, "-m", "whole.kill", *SMALL, "--csv", str(table)]
    given = environment(ROOT) | {"PYTHONPATH": str(ROOT / "tests")}
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    rows = known(table)
    skipped = impossible()
    wanted = {(kind, stage) for kind in ("kills", "disk", "rights") if kind not in skipped for stage in SMALL[1:3]}
    assert {(row.kind, row.stage) for row in rows} == wanted
    assert {row.outcome for row in rows} == {"same"}
    killed = {(row.stage, row.moment.endswith(", logged")) for row in rows if row.kind == "kills" and not row.missed}
    assert killed == {("validate", True), ("split", False)}
    kills = happened(rows)
    assert kills["validate", 0] == kills["split", 0] == 1
    assert "kills: validate 1 and 0 again, split 1 and 0 again\nDVC's own notes were " in done.stdout
    assert "\n2 kills; runs: " in done.stdout
    assert all(f"skipped: {kind}" in done.stdout for kind in skipped if kind in SMALL)


def test_moments_are_spread_over_the_stages_and_repeat() -> None:
    order = list(stages(ROOT))
    first = drawn(["kills"], 60, 1, order)
    assert first == drawn(["kills"], 60, 1, order) != drawn(["kills"], 60, 2, order)
    counts = [sum(one.stage == stage for one in first) for stage in order]
    assert sum(counts) == 60
    assert set(counts) == {6, 7}
    assert sum(len(one.shares) == 2 for one in first) == 15
    logged = [sum(one.logged for one in first if one.stage == stage) for stage in order]
    assert set(logged) == {2, 3}
    assert {one.kind for one in drawn(["disk", "rights"], 60, 1, order)} == {"disk", "rights"}


def row_of(one: kill.Disturbance, *left: str) -> Row:
    return Row(one.kind, one.stage, one.moment, " | ".join(left), "", "same", 1.0)


def test_where_a_run_ended_before_it_was_killed_the_moment_is_drawn_again() -> None:
    draws = [drawn(["kills", "disk"], 4, 1, ["train"], time) for time in range(TIMES)]
    first, twice, disk = draws[0][0], draws[0][3], draws[0][4]
    assert [len(one.shares) for one in draws[0]] == [1, 1, 1, 2, 1]
    rows = [row_of(one, "nothing") for one in [*draws[0][1:3], disk]]
    rows += [row_of(first, MISSED), row_of(twice, "1 part", MISSED)]
    assert outstanding(rows, draws) == [draws[1][0], draws[1][3]]
    rows += [row_of(draws[1][0], "1 part"), row_of(draws[1][3], MISSED, MISSED)]
    assert outstanding(rows, draws) == [draws[2][3]]
    assert never(rows, draws[0]) == ["train was never killed again"]
    assert happened(rows) == {("train", 0): 4}
    rows += [row_of(draw[3], MISSED, MISSED) for draw in draws[2:]]
    assert outstanding(rows, draws) == []  # no more than TIMES
    assert never([*rows, row_of(twice, "1 part", "nothing")], draws[0]) == []


def test_a_run_that_ended_was_not_killed(tmp_path: Path) -> None:
    class Quick(Run):
        def command(self, *arguments: str) -> list[str]:
            return ["sh", "-c", arguments[0]]

    run, busy = Quick(tmp_path), "while :; do :; done"
    (tmp_path / "dvc.yaml").touch()
    assert run.killed("one", 0.1, f"echo \"Running stage 'one'\"; {busy}")
    assert not run.killed("one", 0.1, "echo \"Running stage 'one'\"")
    assert not run.killed("one", 0.1, f"echo \"Running stage 'one'\"; echo \"Running stage 'two'\"; {busy}")


def test_other_bytes_and_what_is_left_over_are_seen(tmp_path: Path) -> None:
    for name in ("train-1", "embed-1"):
        (tmp_path / "build" / ".partial" / name).mkdir(parents=True)
    (tmp_path / "build" / ".partial" / "embed-1" / "finished").write_text("1")
    (tmp_path / "build" / ".raw.aside").mkdir()
    broken = tmp_path / ".dvc" / "cache" / "files" / "md5" / "ab" / "c"
    broken.parent.mkdir(parents=True)
    broken.write_text("half")
    assert faults({"a": "1", "b": "2"}, {"a": "1", "b": "3"}, tmp_path) == [
        "other bytes: b",
        "broken in the cache: c",
        "left over: build/.raw.aside",
        "left over: build/.partial/train-1",
    ]


@pytest.mark.parametrize(
    ("status", "said", "found"),
    [
        (0, "", "did not fail"),
        (1, "no idea", "its message lacks: make room, dvc repro"),
        (1, "make room, then run `dvc repro` again", None),
        (1, "ERROR: failed to reproduce 'split': No possible cache link types for 'a'.", None),
    ],
)
def test_a_failed_run_has_to_say_what_to_do(status: int, said: str, found: str | None) -> None:
    assert told(status, said, "make room") == found


def test_the_commands_of_the_page_are_understood() -> None:
    page = (ROOT / "docs" / "same-bytes.md").read_text()
    lines = re.findall(r'^make (kill|verify)(?: OPTIONS="(.*)")?$', page, re.MULTILINE)
    assert {name for name, _ in lines} == {"kill", "verify"}
    for name, options in lines:
        {"kill": kill, "verify": verify}[name].parser().parse_args(options.split())


def test_what_dvc_says_is_on_the_page() -> None:
    page = (ROOT / "docs" / "same-bytes.md").read_text()
    assert all(words.strip("': ") in page for words in kill.BY_DVC)


def test_a_table_is_gone_on_with(tmp_path: Path) -> None:
    row = kill.Row("kills", "train", "0.5", "nothing", "", "same", 1.5)
    write(tmp_path / "table.csv", [row])
    assert known(tmp_path / "table.csv") == [row]
    assert known(tmp_path / "none.csv") == []
