"""What goes wrong with files: other formats, rotation flags, second copies, and bytes that are no photo at all."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageEnhance

from cairn.photos import decode

ROTATIONS = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
ORIENTATION = 0x0112  # the EXIF tag


def encode(image: Image.Image, rng: np.random.Generator) -> tuple[bytes, str]:
    """An RGB image as a file and its name's ending: mostly JPEG, sometimes grey, PNG, WebP or lying on its side."""
    lot = rng.random()
    if lot < 0.02:
        return _saved(image, "PNG"), "png"
    if lot < 0.03:
        return _saved(image.quantize(128), "PNG"), "png"
    if lot < 0.06:
        return _saved(image, "WEBP", quality=int(rng.integers(60, 95)), method=2), "webp"
    quality = int(rng.integers(55, 96))
    if lot < 0.08:
        return _saved(image.convert("L"), "JPEG", quality=quality), "jpg"
    if lot < 0.12:
        tag = int(rng.choice(list(ROTATIONS)))
        exif = Image.Exif()
        exif[ORIENTATION] = tag
        return _saved(image.transpose(ROTATIONS[tag]), "JPEG", quality=quality, exif=exif), "jpg"
    return _saved(image, "JPEG", quality=quality), "jpg"


def near_copy(content: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """The same photo saved again: a little cropped, brighter or darker, smaller, at another quality."""
    image = decode(content, 4096, 100)
    width, height = image.size
    if rng.random() < 0.5:
        cut = rng.uniform(0, 0.03, 4) * (width, height, width, height)
        image = image.crop((round(cut[0]), round(cut[1]), width - round(cut[2]), height - round(cut[3])))
    if rng.random() < 0.6:
        image = ImageEnhance.Brightness(image).enhance(float(rng.uniform(0.85, 1.15)))
    if rng.random() < 0.3:
        scale = rng.uniform(0.75, 0.95)
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        image = image.resize(size, Image.Resampling.LANCZOS)
    return _saved(image, "JPEG", quality=int(rng.integers(45, 90))), "jpg"


def broken(content: bytes, rng: np.random.Generator) -> bytes:
    """Bytes that no decoder reads, as crawls bring them: cut off, empty, a page of text, or a spoilt header."""
    way = rng.choice(["cut", "cut", "empty", "page", "header"])
    if way == "cut":
        return content[: int(len(content) * rng.uniform(0.2, 0.6))]
    if way == "empty":
        return b""
    if way == "page":
        return b"<!doctype html>\n<title>429 Too many requests</title>\n<p>Slow down and try again later.</p>\n"
    return rng.bytes(16) + content[16:]


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
