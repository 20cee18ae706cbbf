"""Embedding on a GPU: `cairn.embedding` against the forward pass alone and a plain loop; how decoding scales; FP16."""

from __future__ import annotations

import copy
import importlib.util
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from bench_embed import network_of, plain_loop
from gpu_measured import Page, Settings, Window, paced, rate, timed
from gpu_training import PARAMS, deterministic
from torch import Tensor, nn
from torch.utils.data import DataLoader

from cairn.answering.preprocess import prepare
from cairn.embedding import embed, embed_shards
from cairn.locations import Location
from cairn.networks.device import move
from cairn.networks.embedder import Embedder
from cairn.networks.params import Precision
from cairn.params import load_params
from cairn.training.photos import PlainPhotos, plain_batches

SHARD = 1600  # photos: some 64 MB of cleaned ones
PARITY_PHOTOS = 64
LEAST_COSINE = 0.99


def speed(page: Page, settings: Settings, places: Sequence[Location]) -> None:
    """Photos a second from encoded photo to vector."""
    network = network_of(page.network, "none")
    move(network, settings.device)
    usual = load_params(PARAMS).embed.batch_size
    for batch in dict.fromkeys((usual, settings.embed_batch)):
        alone, half = f"forward alone, by {batch}", f"forward alone, by {batch}, bf16"
        with page.trying(alone):
            page.add(alone, forward(network, batch, settings, bf16=False), "images/s")
            page.add(half, forward(network, batch, settings, bf16=True), "images/s", alone)
            precisions: dict[Precision, tuple[str, str]] = {"fp32": ("", alone), "bf16": (", bf16", half)}
            for precision, (said, against) in precisions.items():
                work = partial(embedded, network, places, batch, precision)
                found = with_stage(work, batch, settings)
                page.add(f"cairn.embedding.embed, by {batch}{said}", found, "images/s", against, goal=0.9)
    with page.trying("a shard at a time"):
        found = with_stage(partial(embedded_shards, network, places, usual), usual, settings)
        page.add(f"a shard at a time, by {usual}", found, "images/s", f"forward alone, by {usual}")
    one = paced(lambda count: plain_loop(network, dealt(places, count)), 16, settings.seconds)
    page.add("plain loop, one photo at a time", one, "images/s")
    best = page.value(f"cairn.embedding.embed, by {usual}")
    if best is not None:
        page.add("cairn.embedding.embed to the plain loop", best / one, "times")


def dealt(places: Sequence[Location], count: int) -> list[Location]:
    """So many places, the same ones again and again."""
    return [places[at % len(places)] for at in range(count)]


def forward(network: Embedder, batch: int, settings: Settings, bf16: bool) -> float:
    """Images a second of the network on a batch that lies on the device."""
    size = network.config.preprocessing.size
    images = torch.randn(batch, 3, size, size, device=settings.device)

    @torch.inference_mode()
    def step() -> Tensor:
        with torch.autocast(settings.device.type, torch.bfloat16, enabled=bf16):
            return network(images)  # type: ignore[no-any-return]

    return rate(step, batch, settings.seconds, settings.device)


def embedded(network: Embedder, places: Sequence[Location], batch: int, precision: Precision, count: int) -> None:
    """As the stage embeds the photos of one shard."""
    embed(network, dealt(places, count), batch, precision=precision)


def embedded_shards(network: Embedder, places: Sequence[Location], batch: int, count: int) -> None:
    """As the stage embeds the photos of all shards."""
    names = [f"shard_{at // SHARD:05}.tar" for at in range(count)]
    how = load_params(PARAMS).embed.model_copy(update={"batch_size": batch})
    with tempfile.TemporaryDirectory() as keep:
        embed_shards(network, dealt(places, count), names, how, Path(keep), "shards")


def with_stage(work: partial[None], batch: int, settings: Settings) -> float:
    """Photos a second with torch set as the stage sets it."""
    with deterministic():
        return paced(work, batch * settings.cores, settings.seconds)


def decoding(page: Page, settings: Settings, places: Sequence[Location]) -> None:
    """Photos a second made ready for the network by threads, as `embed` has them made, and by as many processes."""
    how, batch = network_of(page.network, "none").config.preprocessing, load_params(PARAMS).embed.batch_size
    many = dealt(places, 2000 * batch)
    one = "decoding by 1 thread"
    for threads in sorted({1, 2, max(1, settings.cores // 2), settings.cores}):
        torch.set_num_threads(threads)
        what, window = f"decoding by {threads} threads" if threads > 1 else one, Window()
        for _ in timed(plain_batches(many, how, batch), 2 * threads, settings.seconds, settings.device, window):
            pass
        page.add(what, window.rate(batch), "photos/s", *([] if what == one else [one]))
    torch.set_num_threads(settings.cores)
    loader, window = DataLoader(PlainPhotos(many, how), batch, num_workers=settings.cores), Window()
    for _ in timed(loader, 2 * settings.cores, settings.seconds, settings.device, window):
        pass
    page.add(f"decoding by {settings.cores} processes", window.rate(batch), "photos/s", one)


def parity(page: Page, settings: Settings, photos: Sequence[bytes]) -> None:
    """Cosines between what the network makes of photos in FP32 on the CPU and in FP16 on the device; in bf16 on a CPU,
    which has no FP16 that is used.

    The network is untrained; its batch norms take the mean and variance of the photos, as those of a trained one would.
    """
    network = network_of(page.network, "none")
    how = network.config.preprocessing
    images = torch.from_numpy(np.stack([prepare(photo, how) for photo in photos[:PARITY_PHOTOS]]))
    set_norms(network, images)
    kind = torch.float16 if settings.device.type == "cuda" else torch.bfloat16
    if kind == torch.bfloat16:
        page.note("on a CPU the 16-bit network is bf16, in place of FP16")
    short = copy.deepcopy(network).to(settings.device, kind)
    with torch.inference_mode():
        wanted = network(images)
        # As cairn.export.onnx.HalfEmbedder, from which the plan is built; that needs onnx.
        pooled = short.pooled(images.to(settings.device, kind))
        found = nn.functional.normalize(short.neck(pooled.to(kind)).float(), dim=1).cpu()
    cosines = (wanted * found).sum(dim=1)
    page.add("least cosine, 32 to 16 bits", float(cosines.min()), "cosine")
    page.add("mean cosine, 32 to 16 bits", float(cosines.mean()), "cosine")
    page.add("mean cosine of two photos", float(cosine_of_two(wanted)), "cosine")
    page.add("photos with the same nearest", float((nearest(wanted) == nearest(found)).float().mean()), "share")
    if not cosines.min() > LEAST_COSINE:
        page.note(f"PARITY MISSED: a cosine of {float(cosines.min()):.4f} is not over {LEAST_COSINE}")


@torch.no_grad()
def set_norms(network: Embedder, images: Tensor) -> None:
    """Give batch norms the statistics of these images."""
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    kept = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all it sees
    if norms:
        network.train()
        network(images)
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum
    network.eval()


def nearest(vectors: Tensor) -> Tensor:
    """The other vector that is nearest to each, int64 [vectors]."""
    return (vectors @ vectors.T).fill_diagonal_(-2).argmax(dim=1)


def cosine_of_two(vectors: Tensor) -> Tensor:
    """The mean cosine of two different ones."""
    count = len(vectors)
    return ((vectors @ vectors.T).sum() - count) / (count * (count - 1))


def plan(page: Page, settings: Settings) -> None:
    """Say how the TensorRT plan is checked."""
    missing = [] if settings.device.type == "cuda" else ["GPU"]
    missing += [] if importlib.util.find_spec("tensorrt") is not None else ["tensorrt"]
    if missing:
        page.leave(
            "TensorRT plan", f"there is no {' and no '.join(missing)}; `cairn plan` checks its parity where both are"
        )
    else:
        page.note("TensorRT is there: `cairn plan` builds the plan of a finished run and checks its parity by itself")
