"""Embeddings of shards: what is finished is kept, what comes back is what the network said."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

import cairn.embedding
from cairn.embedding import embed, embed_shards
from cairn.locations import Location, locations
from cairn.manifest import read_images, write_images
from cairn.networks.embedder import Embedder, embed_batch, make_embedder
from cairn.params import EmbedParams, SyntheticParams
from cairn.retrieval.vectors import Vectors
from cairn.sources.synthetic import SyntheticSource
from cairn.training.photos import plain_batches

PARAMS = SyntheticParams(
    landmarks=3,
    images=12,
    distractors=0,
    exact_duplicates=0,
    near_duplicates=0,
    broken=0,
    mislabelled=0,
    size=64,
)
HOW = EmbedParams(batch_size=4, precision="fp32", baseline=False)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve photos in several small shards."""
    folder = tmp_path_factory.mktemp("raw")
    write_images(folder, SyntheticSource(PARAMS, 0.005, 1).fetch(folder, folder).images)
    return folder


@pytest.fixture(scope="module")
def network() -> Embedder:
    torch.manual_seed(0)
    return make_embedder("test_resnet", "none", "auto", "linear", 8, 48, 256, 10.0, "centre").eval()


def by_shard(raw: Path) -> tuple[list[Location], list[str]]:
    images = read_images(raw).sort_by("shard")
    return locations(raw, images), images["shard"].to_pylist()


def test_what_is_read_is_what_the_network_said(tmp_path: Path, raw: Path, network: Embedder) -> None:
    places, shards = by_shard(raw)
    assert len(set(shards)) > 2
    files = embed_shards(network, places, shards, HOW, tmp_path, "network")
    assert all(np.load(file).dtype == np.float16 for file in files)
    vectors = Vectors.open(tmp_path, pa.chunked_array([shards]))[np.arange(len(shards))]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert ((vectors * embed(network, places, 4)).sum(axis=1) > 0.9999).all()


def test_finished_shards_are_not_made_again(
    tmp_path: Path, raw: Path, network: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    places, shards = by_shard(raw)
    whole = {f.name: f.read_bytes() for f in embed_shards(network, places, shards, HOW, tmp_path / "whole", "network")}
    made: list[int] = []

    def stops_at_the_second(embedder: Embedder, some: list[Location], batch_size: int, precision: str) -> np.ndarray:
        if len(made) == 1:
            raise KeyboardInterrupt
        made.append(len(some))
        return embed(embedder, some, batch_size)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(cairn.embedding, "embed", stops_at_the_second)
        embed_shards(network, places, shards, HOW, tmp_path / "cut", "network")
    first = next((tmp_path / "cut").iterdir())
    before = first.stat().st_mtime_ns
    embed_shards(network, places, shards, HOW, tmp_path / "cut", "network")
    assert first.stat().st_mtime_ns == before
    assert {file.name: file.read_bytes() for file in (tmp_path / "cut").iterdir()} == whole


@pytest.mark.parametrize("threads", [1, 3])
def test_each_photo_has_its_own_vector_with_any_number_of_threads_and_in_a_batch_that_is_not_full(
    raw: Path, network: Embedder, threads: int
) -> None:
    places, _ = by_shard(raw)
    expected = torch.cat(
        [embed_batch(network, batch) for batch in plain_batches(places, network.config.preprocessing, 1)]
    ).numpy()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        got = embed(network, places, 5)
    finally:
        torch.set_num_threads(before)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    # To the last bit, where fewer photos share the last batch.
    for count in (1, 4, 7, 11):
        np.testing.assert_array_equal(embed(network, places[:count], 5), embed(network, places, 5)[:count])


def test_in_bf16_it_says_nearly_the_same(tmp_path: Path, raw: Path, network: Embedder) -> None:
    places, shards = by_shard(raw)
    whole = embed(network, places, 4)
    (half,) = embed_shards(
        network, places, ["one"] * len(shards), HOW.model_copy(update={"precision": "bf16"}), tmp_path, "network"
    )
    vectors = np.load(half).astype(np.float32)
    assert not np.array_equal(vectors, whole.astype(np.float16))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
    assert ((vectors * whole).sum(axis=1) > 0.999).all()


def test_the_network_moves_to_the_device_there_is_shown_by_one_without_data_in_place_of_a_gpu(
    raw: Path, network: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    places, _ = by_shard(raw)
    monkeypatch.setattr(cairn.embedding, "best_device", lambda: torch.device("meta"))
    with pytest.raises(RuntimeError, match="'meta'"):
        embed(copy.deepcopy(network), places, 4)
