"""Photos as they are embedded: read from shards, batched."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cairn.answering.preprocess import Preprocessing, prepare
from cairn.locations import Location, Readers
from cairn.networks.device import best_device


class PlainPhotos(Dataset[Tensor]):
    """Photos as they are embedded: float32 [3, size, size]."""

    def __init__(self, locations: Sequence[Location], how: Preprocessing) -> None:
        self.locations, self.how, self._readers = locations, how, Readers()

    def __len__(self) -> int:
        return len(self.locations)

    def __getitem__(self, at: int) -> Tensor:
        return torch.from_numpy(prepare(self._readers.read(self.locations[at]), self.how))


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
