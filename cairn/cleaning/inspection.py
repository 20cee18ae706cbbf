"""One look at each photo: decoded once, measured, hashed, and brought down to the stored size where it is larger."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import imagehash
import pyarrow as pa
from PIL import Image

from cairn.cleaning.spread import places_of, spread
from cairn.params import CleanParams
from cairn.photos import JPEG_SIDE, DecodeError, decode, true_size
from cairn.progress import progress
from cairn.shards import Member, ShardReader

THUMBNAIL = 16  # pixels a side


@dataclass(frozen=True)
class Look:
    """What one look found. A photo that cannot be decoded has an `error` and nothing else.

    pixels: SHA-256 of the upright RGB pixels at the stored size
    perceptual_hash: 64 bits
    thumbnail: grey, THUMBNAIL x THUMBNAIL, uint8
    encoded: the resized photo as JPEG; none where the original bytes are kept
    """

    image_id: str
    error: str = ""
    width: int = 0
    height: int = 0
    pixels: str = ""
    perceptual_hash: int = 0
    thumbnail: bytes = b""
    encoded: bytes | None = None


def inspect(raw: Path, images: pa.Table, params: CleanParams) -> Iterator[Look]:
    """Look at every photo of the manifest in its order, with params.workers processes."""
    places = places_of(images)
    looks = spread(partial(look_at, raw, params), places, params.workers, together=16)
    yield from progress(looks, "look at photos", len(places))


def look_at(raw: Path, params: CleanParams, place: Member) -> Look:
    """Read, decode and measure one photo."""
    with ShardReader(raw) as reader:
        content = reader.read(place.shard, place.offset, place.size)
    try:
        image = decode(content, params.short_side, params.max_megapixels)
        width, height = true_size(content)
        if min(width, height) > params.short_side and max(image.size) > JPEG_SIDE:
            raise DecodeError(f"{width} x {height} pixels, too long a shape for a JPEG of the stored size")
    except DecodeError as error:
        return Look(place.name, error=str(error))
    grey = image.convert("L")
    return Look(
        place.name,
        width=width,
        height=height,
        pixels=hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest(),
        perceptual_hash=int(str(imagehash.phash(grey)), 16),
        thumbnail=grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX).tobytes(),
        encoded=as_jpeg(image, params.jpeg_quality) if min(width, height) > params.short_side else None,
    )


def as_jpeg(image: Image.Image, quality: int) -> bytes:
    """RGB as JPEG without chroma subsampling and without metadata."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()
