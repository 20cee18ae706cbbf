"""A repository of another network than the run's, for bench_serve.py: what serving adds is less to a larger one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from index_made import write_random_index

from cairn.answering.preprocess import prepare
from cairn.export.onnx import write_onnx
from cairn.export.triton_configs import NetworkSizes, write_configs
from cairn.networks.embedder import embed_batch, make_embedder, save_embedder
from cairn.params import load_params
from cairn.retrieval.answer import ANSWER_FILE, AnswerRule
from cairn.retrieval.context import CONTEXT_FOLDER, save_context
from cairn.retrieval.entries import ENTRIES_FILE, Entries
from cairn.retrieval.index import choose_type
from cairn.retrieval.rerankers.base import Context
from cairn.retrieval.rerankers.knn_vote import KnnVoteParams
from cairn.serving.preparing import PREPROCESS_FILE

STEPS = (KnnVoteParams(top=3),)
REPLACED = ("__pycache__", "*.onnx", "*.plan*", "network.json", "context", "[2-9]*", "1[0-9]*", ".lock")


class Made(NamedTuple):
    """Folders of the model repository and of the network in it."""

    repository: Path
    model: Path


def make(folder: Path, source: Path, params: Path, backbone: str, photos: list[bytes]) -> Made:
    """Copy `source` below `folder` with an untrained `backbone` and an index of as many vectors as before.

    `backbone` may name several, joined by plus signs.
    The first vectors are those of `photos`, so that each is its own nearest; the others are random.
    """
    torch.manual_seed(0)
    made, export = Made(folder / "triton_repo", folder / "model"), load_params(params).export
    first, *joined = ((name, "none") for name in backbone.split("+"))
    network = make_embedder(*first, "auto", "none", None, None, 256, 100.0, "centre", joined).eval()
    how, dimensions = network.config.preprocessing, network.config.dimensions
    save_embedder(network, made.model)
    shutil.copytree(source, made.repository, ignore=shutil.ignore_patterns(*REPLACED))
    (made.repository / "preprocess" / "1" / PREPROCESS_FILE).write_text(how.model_dump_json())
    write_onnx(network, how, made.repository / "embed" / "1" / "model.onnx", export.opset, export.max_batch)
    sizes = NetworkSizes(how.size, dimensions, export.max_batch, export.profile.max)
    write_configs(made.repository / "embed", sizes, export.batching)

    retrieve = made.repository / "retrieve" / "1"
    ids = Entries.open(retrieve / ENTRIES_FILE).image_ids
    vectors = np.random.default_rng(0).standard_normal((len(ids), dimensions)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for row, photo in enumerate(photos[: len(ids)]):
        vectors[row] = embed_batch(network, torch.from_numpy(prepare(photo, how))[None])[0].numpy()
    write_random_index(retrieve, vectors, ids, choose_type(len(ids), dimensions))
    save_context(retrieve / CONTEXT_FOLDER, STEPS, Context(), ids, vectors)
    rule = AnswerRule(neighbours=100, steps=STEPS, threshold=0.0, calibration=None)
    (retrieve / ANSWER_FILE).write_text(rule.model_dump_json())
    return made
