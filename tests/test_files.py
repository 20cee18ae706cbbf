"""Files and folders written whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

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
