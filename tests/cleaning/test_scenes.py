"""The outdoor vote: counted by hand, with a real file's form and a real network's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from cleaning.made_photos import encoded, scene
from safetensors.torch import save_file

from cairn.cleaning.scenes import SceneError, outdoor_votes, read_outdoor
from cairn.manifest import read_images, write_images
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
    save_file(network.state_dict(), tmp_path / "scenes.safetensors")
    (tmp_path / "IO.txt").write_text("a 2\nb 1\nc 2\nd 1\n")
    write_images(tmp_path, pack([Photo(f"{i:016x}", encoded(scene(i)), 1, str(i)) for i in range(5)], tmp_path, 1.0))
    params = load_params(ROOT / "params.yaml").clean
    given = {"backbone": "test_resnet", "weights": str(tmp_path / "scenes.safetensors"), "top": 1}
    scenes = params.scenes.model_copy(update={**given, "categories": tmp_path / "IO.txt"})
    voter = scene_voter(tmp_path, params.model_copy(update={"scenes": scenes}))
    assert voter is not None
    votes = voter(read_images(tmp_path))
    assert votes.shape == (5,)
    assert set(votes.tolist()) <= {0, 1}
    assert scene_voter(tmp_path, params) is None
