"""A tiny but whole model repository: the tracked models beside a small network, index, names and rule; photos for it.

The network averages a photo over a 3 x 3 grid and turns the 27 numbers into a unit vector of 32 by a fixed matrix, so
that photos of like colours are near each other.
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from retrieval.made_index import made_index

from cairn.answering.preprocess import Preprocessing, pixels
from cairn.export.triton_configs import NetworkSizes, write_configs
from cairn.files import write_json
from cairn.manifest import IMAGES, as_number, image_id_of, write_images, write_landmarks
from cairn.params import BatchingParams
from cairn.retrieval.answer import ANSWER_FILE, AnswerRule
from cairn.retrieval.calibration import fit
from cairn.retrieval.context import CONTEXT_FOLDER, save_context
from cairn.retrieval.entries import ENTRIES_FILE, entries_of, write_entries
from cairn.retrieval.index import INDEX_FILE, write_index
from cairn.retrieval.rerankers.base import Context
from cairn.retrieval.rerankers.distractor_penalty import DistractorPenaltyParams
from cairn.retrieval.rerankers.knn_vote import KnnVoteParams
from cairn.retrieval.rerankers.superglobal import SuperGlobalParams
from cairn.shards import write_shards

ROOT = Path(__file__).parents[2]
SIDE = 48
DIMENSIONS = 32
NAMES = {3: "Tour Eiffel", 5: "Château d'Eau <i>& Fils</i>", 8: "東京タワー"}
PHOTOS_EACH = 6

PREPROCESSING = Preprocessing(
    size=SIDE,
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
    interpolation="bilinear",
    fit="squash",
    short_side=256,
    max_megapixels=4,
)
SCORES = np.linspace(0, 5, 51)
DISTRACTORS = np.eye(4, DIMENSIONS, dtype=np.float32)
STEPS = (
    SuperGlobalParams(top=6, neighbours=3),
    KnnVoteParams(),
    DistractorPenaltyParams(kind="query_side", weight=0.1, top=2),
)
BATCHING = BatchingParams(preferred=(8, 32, 64), delay_ms=1.0, queue=256, timeout_s=30.0, instances=1)
RULE = AnswerRule(neighbours=12, steps=STEPS, threshold=4.0, calibration=fit("platt", SCORES, SCORES > 4))


class Tiny(NamedTuple):
    """The repository, and queries with what they show."""

    repository: Path
    known: dict[int, bytes]  # a photo of each landmark that is not in the index
    unknown: bytes  # a photo that shows no landmark
    photos: Path  # the index's: images.parquet and shards, as in build/clean


def build_tiny(folder: Path) -> Tiny:
    """Copy triton_repo below `folder` and put beside the models what the export stage would."""
    repository = folder / "triton_repo"
    data = ("*.onnx", "*.data", "*.plan", "*.json", "*.parquet", "*.arrow", "*.faiss", "context")
    exported = (*data, "__pycache__", "[2-9]*", "1[0-9]*", ".lock")
    shutil.copytree(ROOT / "triton_repo", repository, ignore=shutil.ignore_patterns(*exported))
    write_json(repository / "preprocess" / "1" / "preprocess.json", PREPROCESSING.model_dump())
    onnx.save(_network(), repository / "embed" / "1" / "model.onnx")
    write_configs(repository / "embed", NetworkSizes(SIDE, DIMENSIONS, 64, 64), BATCHING)
    _write_index(repository / "retrieve" / "1", repository / "embed" / "1" / "model.onnx", folder / "photos")
    write_json(repository / "retrieve" / "1" / ANSWER_FILE, RULE.model_dump())
    rng = np.random.default_rng(99)
    known = {landmark: photo(landmark, rng) for landmark in NAMES}
    return Tiny(repository, known, photo(None, rng), folder / "photos")


def photo(landmark: int | None, rng: np.random.Generator, width: int = 90, height: int = 70) -> bytes:
    """A noisy PNG whose 3 x 3 coloured fields are the landmark's own; without a landmark, the photo's own."""
    fields = (rng if landmark is None else np.random.default_rng(landmark)).integers(0, 256, (3, 3, 3))
    image = Image.fromarray(fields.astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST)
    noise = rng.normal(0, 12, (height, width, 3))
    noisy = np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(noisy).save(out, format="PNG")
    return out.getvalue()


def _network() -> onnx.ModelProto:
    """`image` uint8 [batch, SIDE, SIDE, 3] -> `embedding` float32 [batch, DIMENSIONS], unit vectors."""
    matrix = np.random.default_rng(7).normal(size=(27, DIMENSIONS)).astype(np.float32)
    field = SIDE // 3
    colours = {
        name: np.array(getattr(PREPROCESSING, name), dtype=np.float32)[:, None, None] for name in ("mean", "std")
    }
    constants = {"matrix": matrix, "most": np.array(255, dtype=np.float32), **colours}
    nodes = [
        helper.make_node("Transpose", ["image"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["first"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["values", "most"], ["shares"]),
        helper.make_node("Sub", ["shares", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["normalised"]),
        helper.make_node(
            "AveragePool", ["normalised"], ["fields"], kernel_shape=[field, field], strides=[field, field]
        ),
        helper.make_node("Flatten", ["fields"], ["flat"]),
        helper.make_node("MatMul", ["flat", "matrix"], ["product"]),
        helper.make_node("LpNormalization", ["product"], ["embedding"], axis=1, p=2),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", DIMENSIONS])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def _write_index(folder: Path, network: Path, photos: Path) -> None:
    """`photos` gets the indexed ones and their manifest, as build/clean has them."""
    rng = np.random.default_rng(1)
    names = ((landmark, f"{landmark}/{i}.png") for landmark in NAMES for i in range(PHOTOS_EACH))
    shown = sorted((image_id_of(name), landmark, name) for landmark, name in names)
    contents = [photo(landmark, rng) for _, landmark, _ in shown]
    files = ((f"{image_id}.png", content) for (image_id, _, _), content in zip(shown, contents, strict=True))
    rows = [
        (image_id, m.shard, m.offset, m.size, landmark, name, "Zoë" if landmark == 3 else None, "CC0-1.0")
        for (image_id, landmark, name), m in zip(shown, write_shards(files, photos, 1e9), strict=True)
    ]
    images = pa.table(dict(zip(IMAGES.names, zip(*rows, strict=True), strict=True)), schema=IMAGES)
    write_images(photos, images)
    write_entries(folder / ENTRIES_FILE, entries_of(images))
    vectors, ids = embed_offline(network, contents), np.array([as_number(image_id) for image_id, _, _ in shown])
    write_index(made_index(vectors, ids), folder / INDEX_FILE)
    save_context(folder / CONTEXT_FOLDER, STEPS, Context(distractors=DISTRACTORS), ids, vectors)
    table = {"landmark_id": list(NAMES), "name": list(NAMES.values()), "category": [None] * len(NAMES)}
    write_landmarks(folder, pa.table(table))


def embed_offline(network: Path, photos: list[bytes]) -> NDArray[np.float32]:
    """The embeddings without a server, float32 [photos, DIMENSIONS]."""
    session = onnxruntime.InferenceSession(str(network), providers=["CPUExecutionProvider"])
    images = np.stack([pixels(content, PREPROCESSING) for content in photos])
    (embeddings,) = session.run(["embedding"], {"image": images})
    return np.asarray(embeddings)
