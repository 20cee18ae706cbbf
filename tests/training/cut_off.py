"""Training that is cut off in the middle of an epoch, and whether what goes on from there ends the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from cairn.locations import Photos
from cairn.networks.embedder import Embedder
from cairn.params import TrainParams
from cairn.training.augment import AugmentedPhotos
from cairn.training.loop import Trained, train


class Cut(Exception):
    """Ends a run in the middle of an epoch."""


def fit(embedder: Embedder, photos: Photos, keep: Path, params: TrainParams) -> Trained:
    """Train on the photos and validate with them, with one thread; checkpoints go to `keep`, which may be there."""
    torch.set_num_threads(1)
    keep.mkdir(exist_ok=True)
    return train(embedder, photos, photos, params, "fp32", 5, keep, lambda row: None)


def equal(a: Embedder, b: Embedder) -> bool:
    """Whether all weights and statistics are the same to the bit."""
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch, look: Callable[[int, int], None]) -> Iterator[None]:
    """Tell `look` the epoch and the position of each photo before it is read; what it raises ends the run."""
    given = AugmentedPhotos.__getitem__

    def read(self: AugmentedPhotos, place: tuple[int, int]) -> torch.Tensor:
        look(self.epoch, place[0])
        return given(self, place)

    with monkeypatch.context() as patch:
        patch.setattr(AugmentedPhotos, "__getitem__", read)
        yield


@contextmanager
def cut_off(monkeypatch: pytest.MonkeyPatch, epoch: int) -> Iterator[None]:
    """Expect a run that is cut off at one of the photos of an epoch, counted from 0."""

    def cut(now: int, position: int) -> None:
        if (now, position) == (epoch, 7):
            raise Cut

    with watched(monkeypatch, cut), pytest.raises(Cut):
        yield
