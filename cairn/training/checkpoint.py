"""Checkpoints: all that training needs to go on to the same bytes after a kill."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cairn.files import written_aside
from cairn.processes import rank, wait_for_all

CHECKPOINT_FILE, BEST_FILE = "checkpoint.pt", "best.pt"


class CheckpointError(ValueError):
    """A checkpoint that cannot be read."""


class State:
    """The parts of a training as they are saved in a folder and found again, and how far it has come.

    The weights of the best epoch lie in a file of their own, and not in memory. Of several processes the first one
    saves, and all go on from what it saved: the folder must be one that all of them see.
    """

    def __init__(self, parts: Mapping[str, Any], kept: nn.Module, keep: Path) -> None:
        """`parts`: by name, what has `state_dict` and `load_state_dict`; `kept`: the network that may turn out best."""
        self.parts, self.kept, self.keep = parts, kept, keep
        self.history: list[dict[str, float]] = []
        self.losses: list[float] = []  # of the batches of the epoch that has begun
        found = load_checkpoint(keep / CHECKPOINT_FILE)
        if found is not None:
            for name, part in parts.items():
                part.load_state_dict(found[name])
            self.history, self.losses = found["history"], found["losses"]

    @property
    def epochs_done(self) -> int:
        """Whole ones."""
        return len(self.history)

    @property
    def batches_done(self) -> int:
        """Of the epoch that has begun."""
        return len(self.losses)

    def best_epoch(self) -> int:
        """From 1, the last of equal ones, since a network learns on where validation has nothing more to say; 0 before
        the first.
        """
        scores = [row["validation_gap"] for row in self.history]
        return len(scores) - int(np.argmax(scores[::-1])) if scores else 0

    def epochs_since_best(self) -> int:
        """0 where the last one is the best."""
        return len(self.history) - self.best_epoch()

    def best(self) -> dict[str, Tensor]:
        """The weights of the best epoch. They stay in the file until they are read."""
        found = load_checkpoint(self.keep / BEST_FILE)
        if found is None:
            raise FileNotFoundError(f"{self.keep / BEST_FILE}: no such file; remove {self.keep} to train anew")
        return found

    def finish_epoch(self, row: dict[str, float]) -> None:
        """Take in an epoch's figures and save."""
        self.history.append(row)
        self.losses = []
        # First: a run that is killed between the two makes this epoch again, and with it the same file.
        if self.best_epoch() == len(self.history) and rank() == 0:
            save_checkpoint(self.keep / BEST_FILE, self.kept.state_dict())
        self.save()

    def save(self) -> None:
        """Write the checkpoint. All processes come back when it is there."""
        if rank() == 0:
            saved = {name: part.state_dict() for name, part in self.parts.items()}
            save_checkpoint(self.keep / CHECKPOINT_FILE, {**saved, "history": self.history, "losses": self.losses})
        wait_for_all()


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors, numbers, lists and dictionaries; nothing that would need code to be read. Tensors are written from
    where they lie, without a copy of them all.
    """
    with written_aside(path) as aside:
        torch.save(state, aside)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The state last saved, or none. Tensors are mapped into memory: each is read when it is copied to its place.

    Raises CheckpointError if the file is not whole, or is no data only: code in it is not run.
    """
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)  # type: ignore[no-any-return]
    except Exception as error:  # of a broken file it may be of any kind
        why = f"{type(error).__name__}: {error}".partition("\n")[0]
        advice = f"remove {path.parent}, and `dvc repro train` begins anew"
        raise CheckpointError(f"{path}: no whole checkpoint ({why}); {advice}") from error
