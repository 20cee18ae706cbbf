"""What a killed DVC leaves half-written: real DVC cannot read it, and can after it was put right."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.repo import Repo
from pipeline.test_whole import commit

from cairn.killed import mend

DVC_YAML = """
stages:
  one:
    cmd: echo x >> ran.txt && cp given.txt out.txt && mkdir -p folder && cp given.txt folder/
    params: [seed]
    deps: [given.txt]
    outs: [out.txt, folder]
"""


def dvc(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    (tmp_path / "params.yaml").write_text("seed: 1\n")
    (tmp_path / "given.txt").write_text("given 18\n")  # whose md5 begins with digits
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    assert dvc(tmp_path, "init", "-q").returncode == 0
    assert dvc(tmp_path, "repro", "-q").returncode == 0
    return tmp_path


@pytest.mark.parametrize("content", ["", '{"read": {"/a/b": [{"pid": 1'])
def test_half_written_notes_stop_dvc_until_they_are_put_right(project: Path, content: str) -> None:
    (project / ".dvc" / "tmp" / "rwlock").write_text(content)
    assert "Unable to read RWLock-file" in dvc(project, "status").stderr
    assert mend(project) == [".dvc/tmp/rwlock was half-written: removed, DVC begins it anew"]
    assert "up to date" in dvc(project, "repro").stdout


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("end", [b"schema", b": '2.0'", b"sh: md5"])
def test_a_half_written_lock_is_taken_back_and_no_stage_runs_again(project: Path, committed: bool, end: bytes) -> None:
    lock = project / "dvc.lock"
    whole = lock.read_bytes()
    if committed:
        commit(project)
    lock.write_bytes(whole[: whole.index(end)])
    assert dvc(project, "status").returncode != 0
    (said,) = mend(project)
    assert ("last commit" in said) == committed
    assert dvc(project, "repro").returncode == 0
    assert lock.read_bytes() == whole
    assert (project / "ran.txt").read_text() == "x\n"


@pytest.mark.parametrize("end", [b"one:", b"d5\n      md5", b"5713f"])
def test_a_cut_lock_that_is_still_yaml_is_taken_back(project: Path, end: bytes) -> None:
    lock = project / "dvc.lock"
    whole = lock.read_bytes()
    commit(project)
    lock.write_bytes(whole[: whole.index(end)])
    with pytest.raises(Exception):  # noqa: B017 - of many kinds: DVC itself, on what it does not foresee
        Repo(project).status()
    assert len(mend(project)) == 1
    assert lock.read_bytes() == whole


def test_wherever_a_lock_is_cut_dvc_can_read_what_is_left(project: Path) -> None:
    lock = project / "dvc.lock"
    whole = lock.read_bytes()
    commit(project)
    taken_back = 0
    for end in range(0, len(whole), 3):
        lock.write_bytes(whole[:end])
        if mend(project):
            taken_back += 1
            assert lock.read_bytes() == whole
        else:
            Repo(project).status()
    assert 0 < taken_back < len(whole)


def test_what_can_be_read_or_is_in_use_is_left_alone(project: Path) -> None:
    assert mend(project) == []
    (project / "dvc.lock").write_text("half: [")
    (project / ".dvc" / "tmp" / "rwlock").write_text("")
    with (
        (project / ".dvc" / "tmp" / "lock").open("a") as lock,
        (project / ".dvc" / "tmp" / "rwlock.lock").open("a") as notes,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        fcntl.flock(notes, fcntl.LOCK_EX)
        assert mend(project) == []
    assert len(mend(project)) == 2


def test_it_is_said_on_the_command_line(project: Path) -> None:
    (project / ".dvc" / "tmp" / "rwlock").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "cairn.killed"], cwd=project, capture_output=True, text=True, check=True
    )
    assert "rwlock was half-written" in done.stdout


def test_a_folder_without_dvc_is_no_matter(tmp_path: Path) -> None:
    assert mend(tmp_path) == []
