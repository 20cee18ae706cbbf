"""Checkpoints: all that training needs to go on to the same bytes after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from cairn.files import written_aside


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors, numbers, lists and dictionaries; nothing that would need code to be read."""
    with written_aside(path) as aside:
        torch.save(state, aside)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The state last saved, or none. Data only: a file with code in it raises pickle.UnpicklingError."""
    if not path.exists():
        return None
    return torch.load(path, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]
