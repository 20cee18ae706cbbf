"""Files and folders written whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from cairn.files import link


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
