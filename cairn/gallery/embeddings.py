"""Unit vectors of the gallery's photos, by the exported network, as the server would embed them; kept for next time."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cairn.files import written_aside
from cairn.gallery.changes import Added
from cairn.gallery.locking import GalleryError
from cairn.gallery.versions import NETWORK, network_hash
from cairn.manifest import as_number
from cairn.photos import DecodeError
from cairn.progress import progress
from cairn.serving.embedding import OnnxEmbedder
from cairn.serving.preparing import PREPROCESS_FILE, Preparer
from cairn.shards import ShardReader

FOLDER = "embeddings"  # a file for each network and preprocessing
BATCH = 32
PREPROCESS = Path("preprocess", "1")


def embedded(gallery: Path, added: Mapping[str, Added], repository: Path) -> dict[str, NDArray[np.float32]]:
    """Image id -> unit vector float32 [dimensions] of each added photo; new ones are embedded and kept in the gallery.

    Raises GalleryError if a photo cannot be read any more.
    """
    path = gallery / FOLDER / f"{_key(repository)}.npz"
    known = _read(path)
    new = {image_id: each for image_id, each in added.items() if image_id not in known}
    if new:
        known |= _embed(new, repository)
    vectors = {image_id: known[image_id] for image_id in added}
    if new:
        _write(path, vectors)
    return vectors


def _key(repository: Path) -> str:
    """Of the network and of what photos go through before it."""
    preprocessing = (repository / PREPROCESS / PREPROCESS_FILE).read_bytes()
    return hashlib.sha256(network_hash(repository).encode() + preprocessing).hexdigest()


def _read(path: Path) -> dict[str, NDArray[np.float32]]:
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as parts:
        return dict(zip(parts["image_ids"].tolist(), parts["vectors"], strict=True))


def _write(path: Path, vectors: Mapping[str, NDArray[np.float32]]) -> None:
    ids = sorted(vectors, key=as_number)
    with written_aside(path) as aside, aside.open("wb") as file:
        np.savez(file, image_ids=np.array(ids), vectors=np.stack([vectors[image_id] for image_id in ids]))


def _embed(added: Mapping[str, Added], repository: Path) -> dict[str, NDArray[np.float32]]:
    prepare, embed = Preparer(repository / PREPROCESS), OnnxEmbedder((repository / NETWORK).parent)
    found: dict[str, NDArray[np.float32]] = {}
    ids = sorted(added, key=as_number)
    with progress(range(0, len(ids), BATCH), "embed the gallery's photos", unit="batch") as starts:
        for start in starts:
            part = ids[start : start + BATCH]
            images = prepare([content(added[image_id]) for image_id in part])
            broken = {i: image for i, image in zip(part, images, strict=True) if isinstance(image, DecodeError)}
            if broken:
                image_id, reason = next(iter(broken.items()))
                raise GalleryError(
                    f"photo {image_id} ({added[image_id].photo.source_name}) is refused now: {reason}; "
                    f"`cairn remove --photo {image_id}`, or set clean.max_megapixels to what it was"
                )
            stacked = np.stack([image for image in images if not isinstance(image, DecodeError)])
            found |= dict(zip(part, embed(stacked)["embedding"], strict=True))
    return found


def probe(repository: Path) -> tuple[bytes, NDArray[np.float32]]:
    """A made photo, and what the exported preprocessing and network make of it: float32 [dimensions]."""
    fields = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(fields).resize((640, 480), Image.Resampling.BICUBIC).save(out, format="PNG")
    (image,) = Preparer(repository / PREPROCESS)([out.getvalue()])
    if isinstance(image, DecodeError):
        raise GalleryError(f"{repository / PREPROCESS / PREPROCESS_FILE}: refuses a photo of .3 megapixels ({image})")
    return out.getvalue(), OnnxEmbedder((repository / NETWORK).parent)(image[None])["embedding"][0]


def content(added: Added) -> bytes:
    """The photo's bytes. Raises ShardError if its shard is gone."""
    with ShardReader(added.folder) as reader:
        return reader.read(added.photo.shard, added.photo.offset, added.photo.size)
