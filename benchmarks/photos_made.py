"""Photos for benchmarks: those of a manifest or a folder, or made ones whose JPEG is about as large as a camera's."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from PIL import Image

from cairn.manifest import read_images
from cairn.photos import DecodeError, decode
from cairn.shards import ShardReader

MAX_MEGAPIXELS = 100.0


def scene(seed: int, width: int, height: int) -> Image.Image:
    """A made photo: brightness of noise that is weaker the finer it is, as in photos, and some sharp edges."""
    rng = np.random.default_rng(seed)
    values = np.zeros((height, width, 3), np.float32)
    side = 2
    while side < max(width, height):
        shape = (min(height, side), min(width, side), 3)
        coarse = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
        values += (np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32) - 128) / side**0.6
        side *= 2
    for _ in range(24):
        left, top = rng.integers(0, width), rng.integers(0, height)
        right, bottom = left + rng.integers(8, width // 3), top + rng.integers(8, height // 3)
        values[top:bottom, left:right] += rng.normal(0, 20, 3).astype(np.float32)
    return Image.fromarray(np.clip(values + 128, 0, 255).astype(np.uint8))


def scenes(folder: Path | None, count: int, megapixels: float) -> list[Image.Image]:
    """`count` pictures of so many megapixels: the folder's photos that are no smaller, as often as needed, or made."""
    if folder is None:
        width, height = round((megapixels * 4e6 / 3) ** 0.5), round((megapixels * 0.75e6) ** 0.5)
        return [scene(seed, width, height) for seed in range(count)]
    found = list(islice(_large(folder, megapixels), count))
    if not found:
        raise SystemExit(f"{folder}: no photo of {megapixels:g} megapixels or more; name another folder, or none")
    return list(islice(cycle([_brought_to(image, megapixels) for image in found]), count))


def _large(folder: Path, megapixels: float) -> Iterator[Image.Image]:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with Image.open(path) as image:
            if image.width * image.height >= megapixels * 1e6:
                yield image.convert("RGB")


def _brought_to(image: Image.Image, megapixels: float) -> Image.Image:
    scale = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)


def as_jpeg(image: Image.Image) -> bytes:
    """As a camera saves it."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def contents(folder: Path | None, count: int, short_side: int) -> list[bytes]:
    """Encoded photos, at most `count` different ones: the folder's as they are, or made ones of this short side."""
    if folder is None:
        return [as_jpeg(scene(seed, short_side * 4 // 3, short_side)) for seed in range(min(count, 200))]
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    chosen = [paths[at].read_bytes() for at in np.linspace(0, len(paths) - 1, min(count, len(paths))).astype(int)]
    return [content for content in chosen if _readable(content)]


def first_photos(folder: Path, count: int) -> list[bytes]:
    """The first photos of a manifest, out of its shards."""
    rows = read_images(folder).slice(0, count).to_pylist()
    with ShardReader(folder) as reader:
        return [reader.read(row["shard"], row["offset"], row["size"]) for row in rows]


def _readable(content: bytes) -> bool:
    try:
        return decode(content, 16, MAX_MEGAPIXELS).width > 0
    except DecodeError:
        return False
