"""From a photo's bytes to an upright RGB image: one decoder for cleaning, training, evaluation and the server."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from threading import Lock, Semaphore

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cairn.headers import harm, hint

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF")  # MPO opens as JPEG; Pillow has no other opener

LARGE_MEGAPIXELS = 25  # as decoded: JPEG is made smaller on the way
DRAFT = 1.5  # JPEG is decoded at a half, a quarter or an eighth, but to no less than this times the wanted short side
BAND = 256  # rows
JPEG_SIDE = 65_500  # pixels of a JPEG's side at most, as libjpeg sets it

Image.MAX_IMAGE_PIXELS = None  # until a caller gives one
_LIMIT = Lock()  # held while that changes
_FEW = Semaphore(2)  # threads that decode large photos at once: each takes some 10 bytes a pixel


class DecodeError(ValueError):
    """Bytes that are no photo this project reads; the message says why."""


def decode(content: bytes, short_side: int, max_megapixels: float) -> Image.Image:
    """The first frame as an upright 8-bit RGB image whose short side is at most `short_side` pixels.

    Rotated as EXIF says; CMYK, palettes, grey and 16-bit converted; transparency laid over white. A larger photo is
    resized with Lanczos, a smaller one left alone. Of what the file says beside its pixels nothing is kept.

    Raises DecodeError if the bytes are empty, cut off, of a format not in FORMATS, of more than `max_megapixels`, or
    built to harm (the last two found from the headers, before any pixel is decoded).
    """
    if not content:
        raise DecodeError("empty file")
    harmful = harm(content, max_megapixels)
    if harmful is not None:
        raise DecodeError(harmful)
    _let_pillow_check(max_megapixels)
    with _opened(content, max_megapixels) as image:
        pixels = image.width * image.height
        if pixels > max_megapixels * 1e6:
            raise DecodeError(_too_large(pixels, max_megapixels))
        drafted = image.draft("RGB", (round(DRAFT * short_side),) * 2)
        with _FEW if image.width * image.height > LARGE_MEGAPIXELS * 1e6 else nullcontext():
            image.load()
            if drafted is None:
                upright = shrink(to_rgb(ImageOps.exif_transpose(image)), short_side)
            else:  # it may end within the last column and row, so it is resized by its true size before it is turned
                upright = ImageOps.exif_transpose(shrink(to_rgb(image), short_side, drafted[1]))
    upright.info.clear()  # comments and the like, which Pillow would write into the next file
    return upright


def true_size(content: bytes) -> tuple[int, int]:
    """Width and height in pixels as the header says, before any rotation. Raises DecodeError."""
    with _opened(content) as image:
        return image.size


@contextmanager
def _opened(content: bytes, max_megapixels: float | None = None) -> Iterator[Image.Image]:
    """An image of which only the header is read. What goes wrong, in the block too, is raised as DecodeError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                yield image
    except DecodeError:
        raise
    except Image.DecompressionBombError as error:
        pixels, limit = (float(number) for number in re.findall(r"[\d.]+", str(error))[:2])
        raise DecodeError(_too_large(pixels, max_megapixels or limit / 1e6)) from error
    except UnidentifiedImageError as error:
        raise DecodeError(f"not an image of a known format ({', '.join(FORMATS)}){hint(content)}") from error
    except Exception as error:
        raise DecodeError(f"broken image: {type(error).__name__}: {error}") from error


def _let_pillow_check(max_megapixels: float) -> None:
    """Have Pillow refuse what is larger: a GIF or WebP takes memory when it is opened, before we can look at its size.

    Pillow has one limit for all threads: it is the largest that was asked for, and it raises at twice the number.
    """
    with _LIMIT:
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, round(max_megapixels * 1e6 / 2))


def _too_large(pixels: float, max_megapixels: float) -> str:
    return f"{pixels / 1e6:.6g} megapixels, over the limit of {max_megapixels:g} megapixels"


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as 8-bit RGB; the image itself where it is that."""
    if image.mode.startswith("I") or image.mode == "F":
        return _from_wide(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layered = image.convert("RGBA")
        ground = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(ground, layered).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_wide(image: Image.Image) -> Image.Image:
    """16- and 32-bit grey: 16 bits are scaled by their range, since Pillow's own conversion clips at 255."""
    wide = np.asarray(image)
    divisor = 257 if wide.max(initial=0) > 255 else 1
    narrow = np.empty(wide.shape, dtype=np.uint8)
    for top in range(0, len(wide), BAND):  # a band at a time: 64-bit numbers of a whole photo are large
        narrow[top : top + BAND] = np.clip(wide[top : top + BAND].astype(np.float64) / divisor + 0.5, 0, 255)
    return Image.fromarray(narrow).convert("RGB")


def shrink(image: Image.Image, short_side: int, box: tuple[float, float, float, float] | None = None) -> Image.Image:
    """The image itself, or a Lanczos-resized one, so that its short side is at most `short_side` pixels.

    box: left, top, right and bottom of what is looked at, in pixels; all of it where none is given
    """
    left, top, right, bottom = box or (0, 0, *image.size)
    width, height = right - left, bottom - top
    if min(width, height) <= short_side:
        return image
    scale = short_side / min(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return image.resize(size, Image.Resampling.LANCZOS, box=box)
