"""Reading YAML as DVC reads it: version 1.2, in which 3e-05 is a number and `no` a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError


def read_yaml(path: Path) -> Any:
    """The content of a YAML file. Raises ruamel.yaml.error.YAMLError or UnicodeDecodeError if it is none."""
    text = path.read_text(encoding="utf-8")
    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError:
        raise
    except Exception as error:  # of a date that is none, a number of too many digits, lists in lists without end
        raise YAMLError(f"{type(error).__name__}: {error}") from error
