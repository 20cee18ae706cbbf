"""What an attention branch looks at and says, as rows of a sheet for people."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from cairn.answering.preprocess import at_size, normalise
from cairn.locations import Photos, Readers
from cairn.networks.embedder import Embedder
from cairn.pictures.attention_maps import MOST_PHOTOS, AttentionRow


@torch.inference_mode()
def attention_rows(embedder: Embedder, side: Photos, names: Sequence[str]) -> list[AttentionRow]:
    """The first photo of each class on `side`, in the order of class numbers, up to MOST_PHOTOS of them: with its map,
    the name of its class, and the branch's own likeliest class with its probability.

    `names` are those of the classes. Without an attention branch there are no rows. The embedder must be in eval mode.
    """
    numbers, first = np.unique(side.classes, return_index=True)
    chosen = first[numbers >= 0][:MOST_PHOTOS]
    if len(chosen) == 0:
        return []
    how, readers = embedder.config.preprocessing, Readers()
    contents = (readers.read(side.locations[at]) for at in chosen)
    photos = [at_size(content, how) for content in contents]
    pixels = torch.from_numpy(np.stack([normalise(photo, how) for photo in photos]))
    seen = embedder.seen(pixels.to(next(embedder.parameters()).device))
    if seen.scores is None or seen.attention is None:
        return []
    best = seen.scores.float().softmax(dim=1).max(dim=1)
    maps = seen.attention[:, 0].float().cpu().numpy()
    rows = zip(photos, maps, side.classes[chosen].tolist(), best.indices.tolist(), best.values.tolist(), strict=True)
    return [
        AttentionRow(photo, map_, names[true], f"said {names[said]}\n{probability:.2f}", said == true)
        for photo, map_, true, said, probability in rows
    ]
