"""`python -m cairn.killed`: put right what a killed DVC left half-written and cannot read itself. `make repro` does it.

DVC writes dvc.lock, and its notes on who reads and writes what (.dvc/tmp/rwlock), in place. Nothing is touched that can
be read, nor while another DVC is at it.
"""

from __future__ import annotations

import fcntl
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from ruamel.yaml.error import YAMLError
from voluptuous import Invalid

from cairn.files import discard, written_aside
from cairn.lineage import LOCK
from cairn.yamls import read_yaml

NOTES = Path(".dvc/tmp/rwlock")
CUT = ("m", "md")  # of `hash: md5`
AGAIN = "`dvc repro` takes what was done from DVC's run cache"


def mend(root: Path) -> list[str]:
    """Put right what is half-written in the repository `root`; what was done, a line each."""
    done = []
    with _alone(root / NOTES.with_name("rwlock.lock")) as alone:
        if alone and not _is_json(root / NOTES):
            discard(root / NOTES)
            done.append(f"{NOTES} was half-written: removed, DVC begins it anew")
    with _alone(root / NOTES.with_name("lock")) as alone:
        if alone and not _is_lock(root / LOCK):
            done.append(_taken_back(root))
    return done


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Whether no DVC holds this lock of its own; none gets it within."""
    if not path.parent.exists():  # no DVC was ever run here
        yield False
        return
    with path.open("a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as zc.lockfile does, which DVC uses
        except BlockingIOError:
            yield False
            return
        yield True


def _is_json(path: Path) -> bool:
    try:
        return not path.exists() or isinstance(json.loads(path.read_bytes()), dict)
    except ValueError:
        return False


def _is_lock(path: Path) -> bool:
    """Whether DVC can read it, or it is not there. DVC's schema takes a md5 cut to a number, and any `hash`."""
    if not path.exists():
        return True
    try:
        content = read_yaml(path)
        if COMPILED_LOCKFILE_SCHEMA(content) != content:
            return False
    except (YAMLError, UnicodeDecodeError, Invalid):
        return False
    files = [
        file for stage in content.get("stages", {}).values() for file in stage.get("deps", []) + stage.get("outs", [])
    ]
    return not any(file.get("hash") in CUT for file in files)


def _taken_back(root: Path) -> str:
    """Give dvc.lock the content of the last commit, or remove it where there is none."""
    shown = subprocess.run(["git", "show", f"HEAD:./{LOCK}"], cwd=root, capture_output=True, check=False)
    if shown.returncode != 0:
        discard(root / LOCK)
        return f"{LOCK} was half-written: removed; {AGAIN}"
    with written_aside(root / LOCK) as aside:
        aside.write_bytes(shown.stdout)
    return f"{LOCK} was half-written: it is that of the last commit again; {AGAIN}"


if __name__ == "__main__":
    print("".join(f"{line}\n" for line in mend(Path.cwd())), end="")
