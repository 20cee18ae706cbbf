"""Real photos and real pretrained weights, which are not part of the project: named by variables, else skipped aloud.

CAIRN_PHOTOS: a folder with landmarks/<name>/ photos. CAIRN_WEIGHTS: a folder with pretrained safetensors.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from cairn.embedding import embed
from cairn.locations import Location
from cairn.networks.embedder import make_embedder

pytestmark = [
    pytest.mark.shared_photos,
    pytest.mark.skipif(
        not (os.environ.get("CAIRN_PHOTOS") and os.environ.get("CAIRN_WEIGHTS")),
        reason="CAIRN_PHOTOS and CAIRN_WEIGHTS name no real photos and weights",
    ),
]
NETWORKS = [
    ("vit_tiny_patch16_224", "vit_tiny_patch16_224.fp16.safetensors"),
    ("mobilenetv2_100", "mobilenetv2_100.features.safetensors"),
]
PHOTOS_EACH = 12


@pytest.mark.parametrize(("backbone", "file"), NETWORKS)
def test_pretrained_networks_find_photos_of_the_same_place(backbone: str, file: str) -> None:
    folders = sorted(path for path in (Path(os.environ["CAIRN_PHOTOS"]) / "landmarks").iterdir() if path.is_dir())
    chosen = [(path, label) for label, f in enumerate(folders) for path in sorted(f.iterdir())[:PHOTOS_EACH]]
    weights = str(Path(os.environ["CAIRN_WEIGHTS"]) / file)
    network = make_embedder(backbone, weights, "auto", "none", None, None, 256, 100.0, "centre").eval()
    vectors = embed(network, [Location(p.parent, p.name, 0, p.stat().st_size) for p, _ in chosen], 32)
    cosines = vectors @ vectors.T
    cosines[cosines > 0.93] = -1  # itself and its near duplicates
    labels = np.array([label for _, label in chosen])
    accuracy = float((labels[cosines.argmax(axis=1)] == labels).mean())
    assert accuracy > 0.5  # .72 or so is known for ten photos a landmark; chance is 1 in the number of landmarks
