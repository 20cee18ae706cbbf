"""Run stages in this process and tell which params each of them read.

python tests/whole/params_read.py fetch validate ... > read.json

It runs in a project's folder, with that project's library, and prints JSON: stage -> the full names of the params that
its code read. What a list holds (a step of evaluate.rerank) counts as the list.
"""

from __future__ import annotations

import contextlib
import json
import runpy
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import cairn.params

names: dict[int, str] = {}  # of the blocks of the params in use, by identity
read: set[str] = set()
load = cairn.params.load_params
get = BaseModel.__getattribute__
dump = BaseModel.model_dump
copy = BaseModel.model_copy


def fields(block: BaseModel) -> Iterator[tuple[str, str, Any]]:
    """Attribute, name in params.yaml and value of each param of a block."""
    for attribute, field in type(block).model_fields.items():
        yield attribute, field.alias or attribute, block.__dict__[attribute]


def name(block: BaseModel, prefix: str = "") -> None:
    """Note the full name of a block and of those in it."""
    names[id(block)] = prefix
    for _, title, value in fields(block):
        if isinstance(value, BaseModel):
            name(value, f"{prefix}{title}.")


def note(block: BaseModel, attribute: str) -> None:
    prefix = names.get(id(block))
    if prefix is None:
        return
    for known, title, value in fields(block):
        if known == attribute and not isinstance(value, BaseModel):
            read.add(prefix + title)


def watched_get(block: BaseModel, attribute: str) -> Any:
    if not attribute.startswith("_") and attribute in type(block).model_fields:
        note(block, attribute)
    return get(block, attribute)


def watched_dump(block: BaseModel, **how: Any) -> dict[str, Any]:
    for attribute, _, value in fields(block):
        note(block, attribute)
        if isinstance(value, BaseModel):
            watched_dump(value)
    return dump(block, **how)


def watched_copy(block: BaseModel, **how: Any) -> BaseModel:
    """A copy of a block in use is that block, with some values of its own."""
    copied = copy(block, **how)
    if id(block) in names:
        held.append(copied)
        name(copied, names[id(block)])
    return copied


def watched_load(path: Path) -> cairn.params.Params:
    params = load(path)
    held.append(params)  # so that no other object gets its identity
    name(params)
    return params


held: list[BaseModel] = []


def read_by(stage: str) -> list[str]:
    """The params that a stage reads while it runs here."""
    read.clear()
    sys.argv = [f"stages/{stage}.py", "--no-mlflow"]
    with contextlib.redirect_stdout(sys.stderr):
        runpy.run_path(f"stages/{stage}.py", run_name="__main__")
    return sorted(read)


def main(stages: list[str]) -> Mapping[str, list[str]]:
    cairn.params.load_params = watched_load
    BaseModel.__getattribute__ = watched_get  # type: ignore[method-assign, assignment]
    BaseModel.model_dump = watched_dump  # type: ignore[method-assign, assignment]
    BaseModel.model_copy = watched_copy  # type: ignore[method-assign, assignment]
    return {stage: read_by(stage) for stage in stages}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
