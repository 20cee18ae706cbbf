"""Search of made vectors: FAISS's exact search on the GPU and on the CPU, and the index that Cairn would build."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

import faiss
import numpy as np
import torch
from gpu_measured import Page, Settings, rate
from made_vectors import write
from numpy.typing import NDArray

from cairn.retrieval.building import build
from cairn.retrieval.index import DEPTH, SCALAR_UP_TO, choose_type, search
from cairn.retrieval.tuning import held_photos, recall_of, tune
from cairn.retrieval.vectors import Vectors

RECALL = 0.99  # the default of index.recall
ON_CPU, ON_GPU, ON_GPU_HALF = "Flat on the CPU", "Flat on the GPU", "Flat on the GPU, FP16"
CPU = torch.device("cpu")  # FAISS gives answers back in arrays: there is nothing to wait for


class Asked(NamedTuple):
    """Queries float32 [queries, dimensions], and the nearest of each, int64 [queries, DEPTH]."""

    queries: NDArray[np.float32]
    nearest: NDArray[np.int64]


def speed(page: Page, settings: Settings, folder: Path) -> None:
    """Queries a second, all at once and one by one, and what is found of the nearest."""
    faiss.omp_set_num_threads(settings.cores)
    half = settings.queries // 2
    world = write(folder / "vectors", settings.vectors, half, settings.queries - half, settings.dimensions)
    rows, vectors, queries = np.arange(settings.vectors), Vectors(world.paths), world.queries.vectors
    flat = faiss.IndexFlatIP(settings.dimensions)
    flat.add(vectors[rows])
    asked = Asked(queries, flat.search(queries, DEPTH)[1])
    ask(page, settings, ON_CPU, flat, asked)
    if faiss.get_num_gpus() > 0:
        resources = faiss.StandardGpuResources()
        for what, short in ((ON_GPU, False), (ON_GPU_HALF, True)):
            options = faiss.GpuClonerOptions()
            options.useFloat16 = short
            there = faiss.index_cpu_to_gpu(resources, 0, flat, options)
            ask(page, settings, what, there, asked)
            del there
    else:
        page.leave(ON_GPU, "the installed FAISS sees no GPU")
    factory = choose_type(max(settings.vectors, SCALAR_UP_TO + 1), settings.dimensions)
    (folder / "keep").mkdir()
    index = build(vectors, rows, rows, factory, 1, folder / "keep")
    tune(index, held_photos(vectors, rows, rows, 1), RECALL, None)
    ask(page, settings, factory, index, asked)


def ask(
    page: Page,
    settings: Settings,
    what: str,
    index: faiss.Index,
    asked: Asked,
) -> None:
    """The figures of an index, each against Flat on the CPU."""
    for how, queries in (("at once", asked.queries), ("one by one", asked.queries[:1])):
        found = rate(partial(search, index, queries, DEPTH), len(queries), settings.seconds, CPU)
        page.add(f"{what}, {how}", found, "queries/s", *([] if what == ON_CPU else [f"{ON_CPU}, {how}"]))
    page.add(f"{what}, recall@{DEPTH}", recall_of(search(index, asked.queries, DEPTH)[1], asked.nearest), "share")
