"""Checkpoints: read as they were saved, or refused with the way out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from cairn.training.checkpoint import CheckpointError, State, load_checkpoint, save_checkpoint


def test_a_checkpoint_that_is_not_whole_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "train-1" / "checkpoint.pt"
    weights = torch.arange(1000.0)
    save_checkpoint(path, {"network": {"w": weights}, "history": [{"epoch": 1.0}]})
    whole = path.read_bytes()
    found = load_checkpoint(path)
    assert found is not None
    assert torch.equal(found["network"]["w"], weights)
    del found  # it is mapped into memory
    for broken in (b"", *(whole[:size] for size in (1, 2, len(whole) // 2, len(whole) - 1)), bytes(len(whole))):
        path.write_bytes(broken)
        with pytest.raises(CheckpointError, match=rf"^{path}: no whole checkpoint .*; remove {path.parent}, and `dvc "):
            State({}, nn.Linear(1, 1), path.parent)
