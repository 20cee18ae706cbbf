"""The harness of `make verify`: what is different elsewhere, and that other bytes are seen.

Whole pipelines are compared by it in tests/pipeline/test_whole.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from whole import verify
from whole.project import ROOT
from whole.running import NOBODY, Run, given_to, no_other_user
from whole.verify import CLOCK_OFFSET_S, KILLED_IN, LOCALES, MAY_DIFFER, changes, compared, no_other_locale, together

DVC_YAML = "stages:\n  one: {cmd: x, outs: [out], metrics: [report.json: {cache: false}]}\n"


def python(work: Path, code: str) -> str:
    given = os.environ | together(changes(work)).variables
    return subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True, check=True).stdout


def test_elsewhere_is_another_clock_zone_and_order(tmp_path: Path) -> None:
    assert abs(float(python(tmp_path, "import time; print(time.time())")) - time.time() - CLOCK_OFFSET_S) < 3600
    assert python(tmp_path, "import time; print(time.strftime('%Y'))").strip() != time.strftime("%Y")
    assert python(tmp_path, "import time; print(time.tzname[0])").strip() == "+1245"
    names, folder = [f"{number:02d}" for number in range(20)], tmp_path / "folder"
    folder.mkdir()
    for name in names:
        (folder / name).touch()
    for listing in (f"os.listdir({str(folder)!r})", f"[e.name for e in os.scandir({str(folder)!r})]"):
        found = python(tmp_path, f"import os; print(*{listing})").split()
        assert found != names
        assert sorted(found) == names


def test_another_locale_is_another_locale(tmp_path: Path) -> None:
    if (reason := no_other_locale(tmp_path / LOCALES)) is not None:
        pytest.skip(reason)
    code = "import locale; locale.setlocale(locale.LC_ALL, ''); print(locale.localeconv()['decimal_point'])"
    assert python(tmp_path, code).strip() == ","


@pytest.mark.parametrize("missing", ["localedef", "its source"])
def test_a_locale_that_cannot_be_made_is_skipped_and_not_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    if missing == "localedef":
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        monkeypatch.setattr(verify, "LOCALE", "xx_XX.UTF-8")
    assert "another locale" not in changes(tmp_path)
    monkeypatch.setattr(verify, "verify", lambda *given: {})
    monkeypatch.setattr(sys, "argv", ["verify"])
    assert verify.main() == 0
    assert "skipped: another locale wants " in capsys.readouterr().out


def test_all_changes_are_made_together(tmp_path: Path) -> None:
    every = changes(tmp_path)
    one = together(every)
    assert one.killed_in == KILLED_IN
    assert one.folder != "clone"
    assert (one.user is not None) == (no_other_user() is None)
    assert {name for how in every.values() for name in how.variables} == set(one.variables)


@pytest.mark.skipif(no_other_user() is not None, reason=str(no_other_user()))
def test_another_user_is_another_user(tmp_path: Path) -> None:
    run = Run(tmp_path, NOBODY)
    code = f"import os; print(os.getuid(), os.access({str(Path.home())!r}, os.W_OK))"
    said = subprocess.run([*run.command()[:-3], "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == [str(NOBODY), "False"]
    (tmp_path / "file").touch()
    given_to(tmp_path, NOBODY)
    assert (tmp_path / "file").stat().st_uid == NOBODY


def test_other_bytes_are_seen(tmp_path: Path) -> None:
    for name in ("a", "b"):
        folder = tmp_path / name
        (folder / "out").mkdir(parents=True)
        (folder / "dvc.yaml").write_text(DVC_YAML)
        for file in ("dvc.lock", "out/x", "out/y", "report.json"):
            (folder / file).write_text("same")
    assert compared(tmp_path / "a", tmp_path / "b", None) == []
    (tmp_path / "b" / "out" / "x").write_text("other")
    (tmp_path / "b" / "out" / "y").unlink()
    (tmp_path / "b" / "report.json").write_text("other")
    assert compared(tmp_path / "a", tmp_path / "b", None) == ["out/x", "out/y", "report.json"]


def test_a_kill_that_did_not_happen_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Quick(Run):
        def killed(self, stage: str, after_s: float, *arguments: str) -> bool:
            return stage == "train"

        def measured(self, stages: Sequence[str], *arguments: str) -> tuple[int, dict[str, float]]:
            return 0, dict.fromkeys(KILLED_IN, 1.0)

        def said(self) -> str:
            return ""

    def cloned(work: Path, how: verify.Elsewhere, tiny: bool) -> Run:
        work.mkdir(parents=True)
        (work / "dvc.yaml").write_text(DVC_YAML)
        return Quick(work)

    monkeypatch.setattr(verify, "cloned", cloned)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["verify", "--tiny", "--no-server"])
    assert verify.main() == 1
    found = verify.verify(tmp_path / "one by one", tiny=True, serve=False, one_by_one=True)
    missed = [f"{stage} ended before it was killed" for stage in ("clean", "evaluate")]
    assert {name: what for name, what in found.items() if what} == {"killed and gone on": missed}


def test_what_may_differ_is_on_the_page() -> None:
    page = (ROOT / "docs" / "same-bytes.md").read_text()
    assert all(f"| {what} | {why} |" in page for what, why in MAY_DIFFER.items())
