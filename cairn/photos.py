"""From a photo's bytes to an upright RGB image: one decoder for cleaning, training, evaluation and the server."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF")  # MPO opens as JPEG; Pillow has no other opener

# Pillow's own limit warns at one size and fails at another; ours, which a caller gives, is checked instead.
Image.MAX_IMAGE_PIXELS = None


class DecodeError(ValueError):
    """Bytes that are no photo this project reads; the message says why."""


def decode(content: bytes, short_side: int, max_megapixels: float) -> Image.Image:
    """The first frame as an upright 8-bit RGB image whose short side is at most `short_side` pixels.

    Rotated as EXIF says; CMYK, palettes, grey and 16-bit converted; transparency laid over white. A larger photo is
    resized with Lanczos, a smaller one left alone.

    Raises DecodeError if the bytes are empty, cut off, of a format not in FORMATS, or of more than `max_megapixels`
    (found from the header, before any pixel is decoded).
    """
    if not content:
        raise DecodeError("empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                width, height = image.size
                if width * height > max_megapixels * 1e6:
                    raise DecodeError(f"{width} x {height} pixels, over the limit of {max_megapixels:g} megapixels")
                image.draft("RGB", (2 * short_side, 2 * short_side))
                image.load()
                upright = ImageOps.exif_transpose(image)
    except DecodeError:
        raise
    except UnidentifiedImageError as error:
        raise DecodeError(f"not an image of a known format ({', '.join(FORMATS)})") from error
    except Exception as error:
        raise DecodeError(f"broken image: {type(error).__name__}: {error}") from error
    return shrink(to_rgb(upright), short_side)


def true_size(content: bytes) -> tuple[int, int]:
    """Width and height in pixels as the header says, before any rotation. Raises DecodeError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                return image.size
    except Exception as error:
        raise DecodeError(f"not an image of a known format ({', '.join(FORMATS)})") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as 8-bit RGB."""
    if image.mode.startswith("I") or image.mode == "F":
        return _from_wide(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layered = image.convert("RGBA")
        ground = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(ground, layered).convert("RGB")
    return image.convert("RGB")


def _from_wide(image: Image.Image) -> Image.Image:
    """16- and 32-bit grey: 16 bits are scaled by their range, since Pillow's own conversion clips at 255."""
    values = np.asarray(image).astype(np.float64)
    if values.max(initial=0) > 255:
        values = values / 257
    return Image.fromarray(np.clip(values + 0.5, 0, 255).astype(np.uint8)).convert("RGB")


def shrink(image: Image.Image, short_side: int) -> Image.Image:
    """The image itself, or a Lanczos-resized one, so that its short side is at most `short_side` pixels."""
    width, height = image.size
    if min(width, height) <= short_side:
        return image
    scale = short_side / min(width, height)
    return image.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.LANCZOS)
