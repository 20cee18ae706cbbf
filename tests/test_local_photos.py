"""The local features that re-rankers are given: of which bytes, of what size, and made once."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from retrieval.local.rendered import askew, picture

from cairn.local_photos import local_steps, reader, with_features
from cairn.manifest import IMAGES, NONE, as_image_id, read_images, write_images
from cairn.networks.backbones import BackboneError
from cairn.networks.embedder import make_embedder, save_embedder
from cairn.params import Params, load_params
from cairn.retrieval.neighbours import Neighbours
from cairn.retrieval.rerankers.base import Context
from cairn.retrieval.rerankers.chain import build_chain
from cairn.retrieval.rerankers.knn_vote import KnnVoteParams
from cairn.retrieval.rerankers.local_features import LocalFeaturesParams
from cairn.retrieval.result import searched
from cairn.shards import write_shards
from cairn.sides import Sides
from cairn.stage import CLEAN, RAW

ROOT = Path(__file__).parents[1]
SHORT_SIDE = 80
# The photos' image numbers are their places here; a query shows what photo 1 shows.
SIDES = ["train", "index", "train", "validation", "test", "train"]
LANDMARKS = [10, 11, 12, 11, NONE, NONE]
VOTE = KnnVoteParams(top=1, power=1.0)


@pytest.fixture(scope="module")
def params() -> Params:
    read = load_params(ROOT / "params.yaml")
    return read.model_copy(update={"clean": read.clean.model_copy(update={"short_side": SHORT_SIDE})})


def stored(folder: Path, photos: list[NDArray[np.uint8]]) -> None:
    """Shards and a manifest of the photos, as PNG."""
    names = [as_image_id(number) for number in range(len(photos))]
    contents = []
    for photo in photos:
        buffer = io.BytesIO()
        Image.fromarray(photo).save(buffer, "PNG")
        contents.append(buffer.getvalue())
    places = list(write_shards(zip(names, contents, strict=True), folder, 10**6))
    rows = [
        {"image_id": place.name, "shard": place.shard, "offset": place.offset, "size": place.size, "source_name": "x"}
        for place in places
    ]
    write_images(folder, pa.Table.from_pylist([{"landmark_id": None, **row} for row in rows], schema=IMAGES))


def sides_of(raw: list[NDArray[np.uint8]], clean: list[NDArray[np.uint8]]) -> Sides:
    """In the working folder, where stages find them; raw photos have one more, which cleaning dropped."""
    stored(RAW, [*raw, raw[0]])
    stored(CLEAN, clean)
    return Sides(read_images(CLEAN), np.array(SIDES), np.array(LANDMARKS))


def plain(colour: tuple[int, int, int], width: int, height: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), colour, np.uint8)


def test_queries_are_raw_and_the_index_is_clean_both_of_one_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params: Params
) -> None:
    monkeypatch.chdir(tmp_path)
    raw = [plain((200, number, 0), 300, 240) for number in range(6)]
    clean = [plain((0, number, 200), 100, SHORT_SIDE) for number in range(6)]
    read = reader(sides_of(raw, clean), params)
    for number, (side, landmark) in enumerate(zip(SIDES, LANDMARKS, strict=True)):
        if side == "train" and landmark == NONE:
            with pytest.raises(KeyError):
                read(number)
        else:
            query = side in {"validation", "test"}
            assert read(number).shape == (SHORT_SIDE, 100, 3)
            assert read(number)[40, 50].tolist() == ([200, number, 0] if query else [0, number, 200])


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sides:
    """Renderings of landmarks 0, 1, 2, then 1 seen askew, then others."""
    monkeypatch.chdir(tmp_path)
    photos = [picture(0), picture(1), picture(2), askew(picture(1)), picture(3), picture(3, 1)]
    return sides_of(photos, photos)


def test_a_chain_built_with_them_finds_the_photo(seen: Sides, params: Params) -> None:
    params = params.model_copy(update={"clean": params.clean.model_copy(update={"short_side": 320})})
    step = LocalFeaturesParams(size=320, max_features=400)
    context = with_features(Context(), seen, (step, VOTE), params)
    found = Neighbours(np.array([[0, 2, 1]]), np.array([[10, 12, 11]]), np.array([[0.9, 0.8, 0.7]], np.float32))
    result = build_chain((step, VOTE), context).process(searched(np.eye(1, 4, dtype=np.float32), found, np.array([3])))
    assert result.decided.landmark_ids.tolist() == [11]
    assert result.neighbours.image_ids[0, 0] == 1
    features = context.features[step]
    assert features(1) is features(1)


def test_each_step_has_features_of_its_own_and_other_chains_need_none(seen: Sides, params: Params) -> None:
    steps = (LocalFeaturesParams(max_features=50), LocalFeaturesParams(max_features=20), VOTE)
    assert local_steps(steps) == list(steps[:2])
    context = with_features(Context(), seen, steps, params)
    assert [len(context.features[step](0)) for step in steps[:2]] == [50, 20]
    given = Context()
    assert with_features(given, seen, (VOTE,), params) is given


def test_extractors_with_networks(seen: Sides, params: Params, tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = make_embedder("test_resnet", "none", "auto", "none", None, 64, 256, 50.0, "centre")
    save_embedder(made.eval(), tmp_path / "model")
    params = params.model_copy(update={"clean": params.clean.model_copy(update={"short_side": 160})})
    step = LocalFeaturesParams(extractor="delf", scales=(1.0,), max_features=30, dimensions=8)
    context = with_features(Context(), seen, (step, VOTE), params, tmp_path / "model")
    assert context.features[step](4).descriptors.shape[1] == 8
    wrong = LocalFeaturesParams(extractor="aliked", weights="nowhere.safetensors")
    with pytest.raises(BackboneError, match="no such file"):
        with_features(Context(), seen, (wrong, VOTE), params)
