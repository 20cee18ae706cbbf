"""Files and folders written whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from whole.verify import in_locale, no_other_locale

from cairn.files import link, written_aside


def test_a_file_is_linked_or_where_that_cannot_be_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made").write_text("content")
    link(tmp_path / "made", tmp_path / "folder" / "linked")
    assert (tmp_path / "folder" / "linked").samefile(tmp_path / "made")

    def refuse(target: Path, source: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    link(tmp_path / "made", tmp_path / "folder" / "copied")
    assert not (tmp_path / "folder" / "copied").samefile(tmp_path / "made")
    assert (tmp_path / "folder" / "copied").read_text() == "content"


LATIN = "tr_TR.ISO-8859-9"
IN_LATIN = """
import locale, sys
from pathlib import Path
from cairn.files import read_json, write_json
from cairn.tables import write_csv
locale.setlocale(locale.LC_ALL, "")
assert locale.getencoding() != "UTF-8"
name = {"name": "\\u6771\\u4eac Sch\\u00f6nbrunn"}
write_json(Path(sys.argv[1]) / "a.json", name)
write_csv(Path(sys.argv[1]) / "a.csv", ["name"], [name])
assert read_json(Path(sys.argv[1]) / "a.json") == name
"""


def test_text_has_the_same_bytes_under_a_locale_that_is_not_utf8(tmp_path: Path) -> None:
    if (reason := no_other_locale(tmp_path / "locales", LATIN)) is not None:
        pytest.skip(reason)
    subprocess.run(
        [sys.executable, "-c", IN_LATIN, str(tmp_path)],
        env=os.environ | in_locale(LATIN, tmp_path / "locales"),
        check=True,
    )
    for name in ("a.json", "a.csv"):
        assert "\u6771\u4eac Sch\u00f6nbrunn".encode() in (tmp_path / name).read_bytes()


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda number: stored.append(os.fstat(number).st_ino))
    rename = Path.replace

    def checked(made: Path, target: Path) -> Path:
        assert stored == [made.stat().st_ino]
        return rename(made, target)

    monkeypatch.setattr(Path, "replace", checked)
    with written_aside(tmp_path / "file") as aside:
        aside.write_text("content")
    assert (tmp_path / "file").read_text() == "content"


def test_a_folder_is_there_until_its_successor_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "folder"
    for name in ("folder", ".folder.old.aside"):  # the second: left by a kill
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    rename = Path.replace

    def checked(made: Path, target: Path) -> Path:
        assert [path.name for path in (tmp_path / ".folder.old.aside").iterdir()] == ["folder"]
        return rename(made, target)

    monkeypatch.setattr(Path, "replace", checked)
    with written_aside(target) as aside:
        aside.mkdir()
        (aside / "new").touch()
        assert (target / "folder").exists()
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == ["folder", "folder/new"]
