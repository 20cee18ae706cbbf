"""ONNX, FP32 and FP16, run by ONNX Runtime, against torch; the same bytes twice; what is placed for the server."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from made_pixels import made
from retrieval.made_index import made_index

from cairn.answering.preprocess import Preprocessing
from cairn.export import repository
from cairn.export.onnx import HalfEmbedder, write_onnx
from cairn.export.onnx_run import run_onnx
from cairn.export.parity import compare
from cairn.networks.embedder import Embedder, make_embedder
from cairn.retrieval.index import PhotoIndex
from cairn.retrieval.rerankers.base import Context
from cairn.retrieval.rerankers.chain import build_chain
from cairn.retrieval.rerankers.knn_vote import KnnVoteParams
from cairn.serving.embedding import INPUT, OUTPUT
from cairn.serving.plans import NetworkHashes, read_written

SIZE = 64


def network(backbone: str, joined: Sequence[str] = ()) -> Embedder:
    torch.manual_seed(0)
    others = [(name, "none") for name in joined]
    embedder = make_embedder(backbone, "none", "auto", "linear", 16, SIZE, 256, 50.0, "centre", others)
    embedder.train()
    with torch.no_grad():
        embedder(torch.randn(8, 3, SIZE, SIZE))  # so that batch norms have statistics of their own
    return embedder.eval()


@pytest.fixture(scope="module", params=["test_resnet", "test_vit", "test_vit and test_efficientnet"])
def embedder(request: pytest.FixtureRequest) -> Embedder:
    first, *others = request.param.split(" and ")
    return network(first, others)


@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.99999), ("fp16", 0.999)])
def test_onnx_says_the_same_for_any_batch(tmp_path: Path, embedder: Embedder, precision: str, least: float) -> None:
    how = embedder.config.preprocessing
    pixels, images = made(5, how)
    given = embedder if precision == "fp32" else HalfEmbedder(embedder)
    write_onnx(given, how, tmp_path / "model.onnx", 20, 8)
    wanted = embedder(images).detach().numpy()
    for count in (1, 5):
        found = run_onnx(tmp_path / "model.onnx", pixels[:count], 1)
        assert (found.dtype, found.shape) == (np.float32, (count, 16))
        assert ((found * wanted[:count]).sum(axis=1) >= least).all()
    model = onnx.load(tmp_path / "model.onnx")
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == [INPUT, OUTPUT]
    takers = {node.op_type for node in model.graph.node if INPUT in node.input}
    assert takers == {"Shape", "Cast"}  # TensorRT does no more with uint8
    kinds = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) > 1}
    assert (onnx.TensorProto.FLOAT16 in kinds) == (precision == "fp16")


def test_a_network_that_overflows_in_fp16_is_named(tmp_path: Path) -> None:
    given = network("test_resnet")
    with torch.no_grad():
        next(given.neck.parameters()).fill_(1e6)
    pixels, _ = made(3, given.config.preprocessing)
    write_onnx(HalfEmbedder(given), given.config.preprocessing, tmp_path / "model.onnx", 20, 8)
    with pytest.raises(ValueError, match=r"model.onnx: 3 of 3 embeddings are no numbers"):
        run_onnx(tmp_path / "model.onnx", pixels, 1)


def test_the_same_network_gives_the_same_bytes_without_paths_of_this_machine(tmp_path: Path) -> None:
    for name in ("a", "b"):
        net = network("test_resnet")
        write_onnx(net, net.config.preprocessing, tmp_path / name / "model.onnx", 20, 8)
    content = (tmp_path / "a" / "model.onnx").read_bytes()
    assert content == (tmp_path / "b" / "model.onnx").read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in content


def test_parity_counts_cosines_and_answers() -> None:
    vectors = np.eye(4, dtype=np.float32)
    ids = np.arange(4)
    index = PhotoIndex(made_index(vectors, ids), ids, np.array([10, 11, 12, 13]))
    nearest = build_chain([KnnVoteParams(top=1, power=1, clip=False)], Context())
    turned = vectors.copy()
    turned[3] = [0.8, 0.0, 0.0, 0.6]  # now nearest to the first
    parity = compare(vectors, turned, index, 1, nearest)
    assert (parity.photos, parity.agreement) == (4, 0.75)
    assert parity.least_cosine == pytest.approx(0.6)
    assert parity.mean_cosine == pytest.approx(0.9)
    even, uneven = np.array([[0.7072, 0.707, 0, 0]]), np.array([[0.707, 0.7072, 0, 0]])  # two that are equally near
    assert compare(even.astype(np.float32), uneven.astype(np.float32), index, 1, nearest).agreement == 1


def test_everything_the_server_needs_is_placed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from serving.tiny_repository import build_tiny

    tiny = build_tiny(tmp_path / "tiny").repository
    monkeypatch.chdir(tmp_path)
    made = tmp_path / "made"
    shutil.copytree(tiny / "retrieve" / "1", made)
    shutil.copy(tiny / "embed" / "1" / "model.onnx", made / "network.onnx")
    how = Preprocessing.model_validate_json((tiny / "preprocess" / "1" / "preprocess.json").read_text())
    (made / "half.onnx").write_bytes(b"the FP16 one")
    repository.place(made / "network.onnx", made / "half.onnx", how, made, made / "landmarks.parquet", made)
    for path in ("retrieve/1/index.faiss", "retrieve/1/entries.arrow", "retrieve/1/landmarks.parquet"):
        assert (repository.REPOSITORY / path).read_bytes() == (tiny / path).read_bytes()
    assert (repository.REPOSITORY / "retrieve/1/answer.json").exists()
    assert (repository.REPOSITORY / "retrieve/1/context/distractors.npy").exists()
    assert repository.NETWORK.read_bytes() == (tiny / "embed/1/model.onnx").read_bytes()
    assert Preprocessing.model_validate_json(repository.PREPROCESSING.read_text()) == how
    hashes = read_written(repository.HASHES, NetworkHashes)
    assert hashes.fp32 == hashlib.sha256(repository.NETWORK.read_bytes()).hexdigest()
    assert hashes.fp16 == hashlib.sha256(b"the FP16 one").hexdigest()
