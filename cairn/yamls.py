"""Reading YAML as DVC reads it: version 1.2, in which 3e-05 is a number and `no` a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML


def read_yaml(path: Path) -> Any:
    """The content of a YAML file. Raises ruamel.yaml.error.YAMLError or UnicodeDecodeError if it is none."""
    return YAML(typ="safe", pure=True).load(path.read_text())
