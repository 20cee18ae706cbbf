"""Photos for training and embedding: read from shards, augmented with a seed of their own, batched."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from cairn.answering.preprocess import Preprocessing, normalise, prepare
from cairn.networks.device import best_device
from cairn.params import AugmentParams
from cairn.photos import decode
from cairn.shards import ShardReader
from cairn.training.augment import AUGMENTS, Augment


@dataclass(frozen=True, slots=True)
class Location:
    """Where a photo's bytes lie: a folder of shards, and the place in one of them."""

    root: Path
    shard: str
    offset: int
    size: int


class Readers:
    """One shard reader a folder, opened at first use, so that it can travel to a worker process."""

    def __init__(self) -> None:
        self._readers: dict[Path, ShardReader] = {}

    def read(self, at: Location) -> bytes:
        """The photo's bytes. Raises ShardError."""
        return self._readers.setdefault(at.root, ShardReader(at.root)).read(at.shard, at.offset, at.size)


class PlainPhotos(Dataset[Tensor]):
    """Photos as they are embedded: float32 [3, size, size]."""

    def __init__(self, locations: Sequence[Location], how: Preprocessing) -> None:
        self.locations, self.how, self._readers = locations, how, Readers()

    def __len__(self) -> int:
        return len(self.locations)

    def __getitem__(self, at: int) -> Tensor:
        return torch.from_numpy(prepare(self._readers.read(self.locations[at]), self.how))


class AugmentedPhotos(Dataset[tuple[Tensor, int]]):
    """Photos as they are trained on, each changed by a seed made of (seed, epoch, position): any number of workers
    gives the same pixels. Set `epoch` and `size` before each epoch.
    """

    def __init__(
        self,
        locations: Sequence[Location],
        classes: Sequence[int],
        how: Preprocessing,
        augment: AugmentParams,
        seed: int,
    ) -> None:
        self.locations, self.classes, self.how, self.augment, self.seed = locations, classes, how, augment, seed
        self.epoch, self.size = 0, how.size
        self._readers = Readers()
        self._erase = v2.RandomErasing(augment.erase, inplace=True)

    def __len__(self) -> int:
        return len(self.locations)

    def __getitem__(self, at: int) -> tuple[Tensor, int]:
        image = decode(self._readers.read(self.locations[at]), self.how.short_side, self.how.max_megapixels)
        seed = int(np.random.SeedSequence((self.seed, self.epoch, at)).generate_state(1)[0])
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed prepares for GPUs too, a tenth of all this
            changed = _change(self.size, self.augment)(image)
            return self._erase(torch.from_numpy(normalise(changed, self.how))), self.classes[at]


@functools.cache
def _change(size: int, augment: AugmentParams) -> Augment:
    return AUGMENTS[augment.name](size, augment)


def plain_batches(locations: Sequence[Location], how: Preprocessing, batch_size: int) -> Iterator[Tensor]:
    """Batches float32 [batch, 3, size, size] in the order given.

    As many threads as torch computes with load the next ones, a batch each: meanwhile where a GPU computes, but in turn
    with it on a CPU, whose threads wait for each other whenever one of them has lost its core to a photo.
    """
    photos, threads = PlainPhotos(locations, how), torch.get_num_threads()
    in_turn = best_device().type == "cpu"

    def loaded(start: int) -> Tensor:
        # By NumPy: torch would start threads of its own for each of ours, and with more threads than cores those of the
        # network sleep between layers.
        chosen = range(start, min(start + batch_size, len(locations)))
        return torch.from_numpy(np.stack([photos[at].numpy() for at in chosen]))

    with ThreadPoolExecutor(threads, "load") as pool:
        coming: deque[Future[Tensor]] = deque()
        for start in range(0, len(locations), batch_size):
            coming.append(pool.submit(loaded, start))
            if in_turn and len(coming) == threads:
                wait(coming)
                yield from (coming.popleft().result() for _ in range(threads))
            elif len(coming) > threads:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
