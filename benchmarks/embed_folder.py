"""Embed a folder of photos with networks as they come, for `vector_shape.py` and `bench_index.py --real`.

    python benchmarks/embed_folder.py photos/ vectors.npz --backbone vit_tiny_patch16_224 --weights vit.safetensors

The folder is laid out as that of the `folder` source: landmarks/<name>/ and distractors/. Several backbones are joined.
The file holds vectors float32 [photos, dimensions] and landmark_ids int64 [photos], -1 for a distractor.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cairn.answering.preprocess import prepare
from cairn.networks.embedder import Embedder, embed_batch, make_embedder
from cairn.photos import DecodeError
from cairn.progress import progress

BATCH = 64


def listed(folder: Path) -> list[tuple[Path, int]]:
    """The files with their landmarks' numbers."""
    landmarks = sorted(path for path in (folder / "landmarks").iterdir() if path.is_dir())
    shown = [(path, number) for number, each in enumerate(landmarks) for path in sorted(each.iterdir())]
    others = sorted(path for path in (folder / "distractors").rglob("*") if path.is_file())
    return shown + [(path, -1) for path in others]


def embed(network: Embedder, files: list[tuple[Path, int]]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The vectors of all files that can be decoded."""
    vectors, landmarks, photos = [], [], []
    for path, landmark in progress(files, "embed"):
        try:
            photos.append(np.asarray(prepare(path.read_bytes(), network.config.preprocessing)))
        except DecodeError as error:
            print(f"{path}: {error}")
            continue
        landmarks.append(landmark)
        if len(photos) == BATCH:
            vectors.append(embed_batch(network, torch.from_numpy(np.stack(photos))).numpy())
            photos = []
    if photos:
        vectors.append(embed_batch(network, torch.from_numpy(np.stack(photos))).numpy())
    return np.concatenate(vectors), np.array(landmarks)


def main() -> None:
    """Embed and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--backbone", action="append", required=True, help="of timm; may be given several times")
    parser.add_argument("--weights", action="append", required=True, help="hub, or a file, for each backbone")
    args = parser.parse_args()
    (backbone, weights), *joined = zip(args.backbone, args.weights, strict=True)
    network = make_embedder(backbone, weights, "auto", "none", None, None, 256, 100.0, "centre", joined).eval()
    vectors, landmarks = embed(network, listed(args.folder))
    np.savez(args.out, vectors=vectors, landmark_ids=landmarks)


if __name__ == "__main__":
    main()
