"""Embeddings of a whole manifest: one float16 array a shard, finished shards kept when the work is cut off."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from cairn.allocation import keep_memory
from cairn.files import written_aside
from cairn.locations import Location
from cairn.networks.device import best_device, move
from cairn.networks.embedder import Embedder, embed_batch
from cairn.networks.params import Precision
from cairn.params import EmbedParams
from cairn.processes import rank, wait_for_all, world
from cairn.progress import progress
from cairn.training.photos import plain_batches


def embed_shards(
    embedder: Embedder, places: Sequence[Location], shards: Sequence[str], how: EmbedParams, keep: Path, what: str
) -> list[Path]:
    """Embed photo by photo in order; write `keep/<shard>.npy`, float16 [photos of the shard, dimensions].

    `shards` names each photo's cleaned shard, in runs. A file that is already in `keep` is not made again. Of several
    processes each makes every so-manieth file, and all come back when all files are there.
    """
    names = list(dict.fromkeys(shards))
    groups: dict[str, list[Location]] = {name: [] for name in names}
    for place, shard in zip(places, shards, strict=True):
        groups[shard].append(place)
    written = [keep / f"{Path(name).stem}.npy" for name in names]
    bar: tqdm[None]
    with progress((), f"embed ({what})", total=len(places)) as bar:
        for number, (name, path) in enumerate(zip(names, written, strict=True)):
            if number % world() == rank() and not path.exists():
                vectors = embed(embedder, groups[name], how.batch_size, precision=how.precision)
                with written_aside(path) as aside, aside.open("wb") as file:
                    np.save(file, vectors.astype(np.float16))
            bar.update(len(groups[name]))
    wait_for_all()
    return written


def embed(
    embedder: Embedder,
    places: Sequence[Location],
    batch_size: int,
    what: str | None = None,
    precision: Precision = "fp32",
) -> NDArray[np.float32]:
    """Unit vectors float32 [photos, dimensions] of the photos at `places`; `what`, if given, names a progress bar.

    The embedder is moved to a GPU where there is one.
    """
    keep_memory()
    move(embedder, best_device())
    # The last bits of a vector may depend on how many photos share a batch: the last one is filled up.
    filled = list(places)
    filled += filled[-1:] * (-len(filled) % batch_size)
    batches = plain_batches(filled, embedder.config.preprocessing, batch_size)
    shown = progress(batches, what, len(filled) // batch_size, "batch") if what else batches
    return torch.cat([embed_batch(embedder, batch, precision) for batch in shown])[: len(places)].numpy()
