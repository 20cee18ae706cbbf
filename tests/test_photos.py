"""The decoder on every kind of file that a collection holds: known pixels come out, and refusals say why."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from cairn.photos import DecodeError, decode, shrink, to_rgb, true_size

# Left red, right blue; 60 x 40 pixels, so that a rotation shows.
PICTURE = Image.new("RGB", (60, 40), (220, 20, 20))
PICTURE.paste((20, 20, 220), (30, 0, 60, 40))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def opened(content: bytes, short_side: int = 1000) -> Image.Image:
    return decode(content, short_side, max_megapixels=10)


def corners(image: Image.Image) -> tuple[str, str]:
    """The colours of the middle left and middle right, as words."""

    def word(x: int, y: int) -> str:
        red, _, blue = image.getpixel((x, y))  # type: ignore[misc]
        return "red" if red > 150 > blue else "blue" if blue > 150 > red else "other"

    return word(3, image.height // 2), word(image.width - 4, image.height // 2)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF"])
def test_every_format(kind: str) -> None:
    image = opened(encoded(PICTURE, kind))
    assert (image.mode, image.size) == ("RGB", (60, 40))
    assert corners(image) == ("red", "blue")


def test_mpo_gives_its_first_picture() -> None:
    second = Image.new("RGB", (60, 40))
    content = encoded(PICTURE, "MPO", save_all=True, append_images=[second])
    assert corners(opened(content)) == ("red", "blue")


def test_an_animation_gives_its_first_frame() -> None:
    second = Image.new("RGB", (60, 40), "white")
    for kind in ("GIF", "WEBP", "PNG"):
        assert corners(opened(encoded(PICTURE, kind, save_all=True, append_images=[second]))) == ("red", "blue")


@pytest.mark.parametrize(
    ("orientation", "size", "seen"),
    [
        (1, (60, 40), ("red", "blue")),
        (3, (60, 40), ("blue", "red")),
        (6, (40, 60), None),
        (2, (60, 40), ("blue", "red")),
    ],
)
def test_exif_orientation(orientation: int, size: tuple[int, int], seen: tuple[str, str] | None) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(PICTURE, "JPEG", exif=exif)
    image = opened(content)
    assert image.size == size
    assert true_size(content) == (60, 40)
    if seen:
        assert corners(image) == seen
    else:  # turned by 90 degrees: what was left is on top
        assert image.getpixel((20, 3))[0] > 150  # type: ignore[index]
        assert image.getpixel((20, 56))[2] > 150  # type: ignore[index]


def test_cmyk_grey_palette_and_black_and_white() -> None:
    assert corners(opened(encoded(PICTURE.convert("CMYK"), "JPEG"))) == ("red", "blue")
    assert corners(opened(encoded(PICTURE.convert("P"), "PNG"))) == ("red", "blue")
    grey = opened(encoded(PICTURE.convert("L"), "JPEG"))
    assert grey.getpixel((5, 5)) == grey.getpixel((5, 5))[:1] * 3  # type: ignore[index, operator]
    bits = opened(encoded(Image.new("1", (8, 8), 1), "PNG"))
    assert bits.getpixel((0, 0)) == (255, 255, 255)


def test_transparency_lies_over_white() -> None:
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert opened(encoded(clear, "PNG")).getpixel((4, 4)) == (255, 255, 255)
    half = Image.new("LA", (8, 8), (0, 128))
    assert opened(encoded(half, "PNG")).getpixel((4, 4)) == (127, 127, 127)
    palette = PICTURE.convert("P")
    content = encoded(palette, "PNG", transparency=palette.getpixel((0, 0)))
    assert opened(content).getpixel((3, 3)) == (255, 255, 255)


@pytest.mark.parametrize("value", [0, 257 * 10, 257 * 128, 65535])
def test_sixteen_bits_are_scaled_not_clipped(value: int) -> None:
    wide = Image.fromarray(np.full((8, 8), value, np.uint16))
    assert opened(encoded(wide, "PNG")).getpixel((4, 4)) == (round(value / 257),) * 3
    # A dark photo of few bits keeps its darkness.
    assert to_rgb(Image.fromarray(np.full((4, 4), 200, np.int32))).getpixel((0, 0)) == (200, 200, 200)


def test_only_larger_photos_are_resized_and_keep_their_shape() -> None:
    assert shrink(PICTURE, 40) is PICTURE
    assert shrink(PICTURE, 20).size == (30, 20)
    assert opened(encoded(PICTURE.resize((6000, 400)), "JPEG"), 100).size == (1500, 100)


def png_bomb(width: int, height: int) -> bytes:
    """A PNG of so many pixels in a few bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        whole = kind + content
        return len(content).to_bytes(4, "big") + whole + zlib.crc32(whole).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty file"),
        (b"hello, I am no photo", "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (encoded(PICTURE, "JPEG")[:400], "broken image"),
        (encoded(PICTURE, "PNG")[:80], "broken image"),
        (png_bomb(50_000, 50_000), "50000 x 50000 pixels, over the limit of 10 megapixels"),
        (b"%PDF-1.7", "not an image"),
    ],
)
def test_refusals_say_why(content: bytes, said: str) -> None:
    with pytest.raises(DecodeError, match=said):
        opened(content)
