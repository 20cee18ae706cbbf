"""Files written whole or not at all, with the same bytes every time. Every out of every stage goes through here."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

Form = TypeVar("Form", bound=BaseModel)


class FormError(ValueError):
    """A JSON file that is missing or not what it should be; the message names it and the way out."""


@contextmanager
def written_aside(target: Path) -> Iterator[Path]:
    """Give a path beside `target` to write a file or folder at; rename it to `target` when the block ends well.

    A block that raises, or a process that is killed, leaves `target` as it was. Two renames put a folder in the place
    of another: killed between them, `.<name>.old.aside` is the old one. A file is whole after a power cut, too.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.aside")
    discard(aside)
    yield aside
    if aside.is_file():
        store(aside)
    _replace(aside, target)


def _replace(made: Path, target: Path) -> None:
    """Rename `made` (a file or a folder) to `target`, in place of whatever is there."""
    old = target.with_name(f".{target.name}.old.aside")
    if target.is_dir() and not target.is_symlink():
        discard(old)
        target.rename(old)
    made.replace(target)
    discard(old)


def store(path: Path) -> None:
    """Come back when a file's content is on the disk: a rename may be there before it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def link(made: Path, target: Path) -> None:
    """Give the file `made` a second name, which takes no room; where the file system has no such links, copy it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(made)
    except OSError:
        shutil.copyfile(made, target)


def discard(path: Path) -> None:
    """Remove a file or a folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON: keys in the order given, floats of 6 places, so that diffs stay readable."""
    with written_aside(path) as aside:
        text = json.dumps(_rounded(value), indent=2, ensure_ascii=False, allow_nan=False)
        aside.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """What `write_json` wrote."""
    return json.loads(path.read_bytes())


def write_form(path: Path, form: BaseModel) -> None:
    """Write what `read_form` reads: every float in full, since others compute with it."""
    with written_aside(path) as aside:
        aside.write_text(form.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_form(path: Path, form: type[Form], way_out: str) -> Form:
    """A JSON file's values, checked. Raises FormError if it is missing or says something else."""
    try:
        return form.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise FormError(f"{path}: no such file; {way_out}") from error
    except ValidationError as error:
        wrong = error.errors()[0]
        where = ".".join(str(part) for part in wrong["loc"]) or "the file"
        raise FormError(f"{path}: {where}: {wrong['msg']}; {way_out}") from error


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value


def write_table(path: Path, table: pa.Table) -> None:
    """Write a parquet file whose bytes depend only on the table."""
    with written_aside(path) as aside:
        pq.write_table(table.replace_schema_metadata(None), aside, compression="zstd", store_schema=False)


def md5_of(path: Path) -> str:
    """The hash DVC uses for a file: md5 over the content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
