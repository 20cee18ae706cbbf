"""The outdoor vote: counted by hand, with the published list of categories, and with a network of the right form.

No network trained on Places365 could be loaded where this was written. The last test asks a real one, and is skipped
saying so where CAIRN_WEIGHTS has none.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from cleaning.made_photos import scene
from harmful import encoded
from safetensors.torch import save_file

from cairn.answering.preprocess import prepare
from cairn.cleaning.scenes import SceneError, outdoor_votes, read_outdoor
from cairn.manifest import read_images, write_images
from cairn.networks.backbones import default_size
from cairn.networks.embedder import preprocessing_for
from cairn.networks.scanning import scene_voter
from cairn.params import load_params
from cairn.sources.base import Photo, pack

ROOT = Path(__file__).parents[2]


def test_votes_are_counted_among_the_likeliest() -> None:
    outdoor = np.array([True, False, True, True, False])
    scores = np.array([[5, 4, 3, 2, 1], [1, 5, 2, 3, 4]], dtype=np.float32)
    assert outdoor_votes(scores, outdoor, 3).tolist() == [2, 1]
    with pytest.raises(SceneError, match="5 categories, the list 4"):
        outdoor_votes(scores, outdoor[:4], 3)


def test_the_list_is_read_and_a_bad_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "IO.txt"
    file.write_text("/a/airfield 2\n/a/alcove 1\n/a/apartment building/outdoor 2\n")
    assert read_outdoor(file).tolist() == [True, False, True]
    file.write_text("/a/airfield 2\n/a/alcove\n")
    with pytest.raises(SceneError, match="line 2"):
        read_outdoor(file)


def test_a_network_from_a_file_votes_as_it_does_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=4).eval()
    torch.nn.init.normal_(network.fc.weight)
    params = load_params(ROOT / "params.yaml").clean
    how = preprocessing_for("test_resnet", default_size("test_resnet"), "centre", params.short_side, 100.0)
    contents = [encoded(scene(i)) for i in range(5)]
    photos = torch.from_numpy(np.stack([prepare(content, how) for content in contents]))
    with torch.inference_mode():
        network.fc.bias -= network(photos).mean(0)  # so that not all photos show the same scene
        likeliest = network(photos).argmax(1)
    save_file(network.state_dict(), tmp_path / "scenes.safetensors")
    (tmp_path / "IO.txt").write_text("a 2\nb 1\nc 2\nd 1\n")
    write_images(
        tmp_path, pack([Photo(f"{i:016x}", each, 1, str(i)) for i, each in enumerate(contents)], tmp_path, 1.0)
    )
    given = {"backbone": "test_resnet", "weights": str(tmp_path / "scenes.safetensors"), "top": 1}
    scenes = params.scenes.model_copy(update={**given, "categories": tmp_path / "IO.txt"})
    voter = scene_voter(tmp_path, params.model_copy(update={"scenes": scenes}))
    assert voter is not None
    votes = voter(read_images(tmp_path)).tolist()
    assert votes == (likeliest % 2 == 0).tolist()
    assert set(votes) == {0, 1}
    assert scene_voter(tmp_path, params) is None


WEIGHTS = Path(os.environ.get("CAIRN_WEIGHTS", "none"))
PHOTOS = Path(os.environ.get("CAIRN_PHOTOS", "none"))
LIST = WEIGHTS / "IO_places365.txt"
NETWORKS = sorted(path for end in ("safetensors", "pth") for path in WEIGHTS.glob(f"resnet50*places365*.{end}"))
KNOWN = {
    "/a/airfield": True,
    "/a/airplane_cabin": False,
    "/a/alcove": False,
    "/c/church/indoor": False,
    "/c/church/outdoor": True,
    "/l/living_room": False,
    "/m/mosque/outdoor": True,
    "/p/palace": True,
    "/r/restaurant_kitchen": False,
    "/t/temple/asia": True,
    "/t/tower": True,
}


@pytest.mark.shared_photos
@pytest.mark.skipif(not LIST.exists(), reason="CAIRN_WEIGHTS holds no IO_places365.txt, Places365's indoor list")
def test_the_published_list_says_which_scenes_are_outdoors() -> None:
    outdoor = read_outdoor(LIST)
    assert (len(outdoor), outdoor.sum()) == (365, 205)  # 160 indoors
    # The network's outputs stand in the order of its own list of categories.
    lines = [line.rsplit(" ", 1) for line in (WEIGHTS / "categories_places365.txt").read_text().splitlines()]
    assert [int(number) for _, number in lines] == list(range(365))
    names = [name for name, _ in lines]
    assert [line.rsplit(" ", 1)[0] for line in LIST.read_text().splitlines()] == names
    assert {name: bool(outdoor[names.index(name)]) for name in KNOWN} == KNOWN
    # A photo that is surely a palace, a temple or a tower has the votes that a kitchen lacks.
    likely = ["/p/palace", "/t/temple/asia", "/t/tower", "/k/kitchen", "/r/restaurant_kitchen"]
    scores = np.zeros((1, 365), np.float32)
    scores[0, [names.index(name) for name in likely]] = [9, 8, 7, 6, 5]
    assert outdoor_votes(scores, outdoor, 5).tolist() == [3]


@pytest.mark.shared_photos
@pytest.mark.skipif(
    not (NETWORKS and LIST.exists() and PHOTOS.is_dir()),
    reason="no Places365 network could be loaded: CAIRN_WEIGHTS holds no resnet50*places365* weights (or no list, or "
    "CAIRN_PHOTOS no photos), so the outdoor vote is untested with a real network",
)
def test_a_real_places365_network_finds_landmarks_outdoors(tmp_path: Path) -> None:
    folders = sorted(path for path in (PHOTOS / "landmarks").iterdir() if path.is_dir())
    chosen = [path for folder in folders for path in sorted(folder.iterdir())[:2]]
    photos = [Photo(f"{n:016x}", path.read_bytes(), 1, path.name) for n, path in enumerate(chosen)]
    write_images(tmp_path, pack(photos, tmp_path, 1.0))
    params = load_params(ROOT / "params.yaml").clean
    given = {"backbone": "resnet50", "weights": str(NETWORKS[0]), "categories": LIST, "top": 5}
    voter = scene_voter(tmp_path, params.model_copy(update={"scenes": params.scenes.model_copy(update=given)}))
    assert voter is not None
    assert (voter(read_images(tmp_path)) >= params.scenes.min_votes).mean() > 0.6
