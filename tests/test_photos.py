"""The decoder on every kind of file that a collection holds: known pixels come out, and refusals say why."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Lock

import numpy as np
import pytest
from harmful import (
    avif_of,
    bmp_of,
    bmp_of_runs,
    encoded,
    gif_of,
    gif_of_blocks,
    jpeg_of,
    jpeg_of_scans,
    jpeg_of_segments,
    png_of,
    png_of_chunks,
    png_of_texts,
    ppm_of_comments,
    tiff_of,
    tiff_of_strips,
    tiff_of_tile,
    webp_of,
)
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cairn import photos
from cairn.photos import DecodeError, decode, shrink, to_rgb, true_size

# Left red, right blue; 60 x 40 pixels, so that a rotation shows.
PICTURE = Image.new("RGB", (60, 40), (220, 20, 20))
PICTURE.paste((20, 20, 220), (30, 0, 60, 40))


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


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF"])
@pytest.mark.parametrize("size", [(40, 60), (400, 600)])
def test_what_a_file_says_beside_its_pixels_is_not_handed_on(kind: str, size: tuple[int, int]) -> None:
    """Pillow would write a comment into the next JPEG, and refuses to where it is longer than a JPEG's may be."""
    long = "home " * (20_000 if kind != "JPEG" else 1000)
    said = PngInfo()
    said.add_text("comment", long)
    file = io.BytesIO()
    Image.new("RGB", size, "red").save(file, kind, **({"pnginfo": said} if kind == "PNG" else {"comment": long}))
    with Image.open(io.BytesIO(file.getvalue())) as image:
        assert len(image.info["comment"]) == len(long)
    stored = io.BytesIO()
    decode(file.getvalue(), 100, 100.0).save(stored, "JPEG")
    assert b"home" not in stored.getvalue()


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


WAVES = Image.fromarray(
    (
        127
        + 120 * np.sin(np.arange(1031)[None, :, None] / 18) * np.cos(np.arange(773)[:, None, None] / 14 + np.arange(3))
    ).astype(np.uint8)
)


@pytest.mark.parametrize("short_side", [64, 100, 128, 200])
def test_a_jpeg_decoded_at_a_part_of_its_size_is_where_it_would_be_when_decoded_whole(short_side: int) -> None:
    """Its sides are no multiple of 2, 4 or 8: within the last column and row lies less than a pixel."""
    content = encoded(WAVES, "JPEG", quality=95, subsampling=0)
    whole = np.asarray(shrink(Image.open(io.BytesIO(content)).convert("RGB"), short_side), np.float64)
    got = np.asarray(opened(content, short_side), np.float64)
    assert got.shape == whole.shape
    assert np.abs(got - whole).max() < 8


def test_a_turned_jpeg_has_the_pixels_of_the_same_one_that_is_not() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    plain, turned = encoded(WAVES, "JPEG"), encoded(WAVES, "JPEG", exif=exif)
    expected = opened(plain, 128).transpose(Image.Transpose.ROTATE_270)
    np.testing.assert_array_equal(opened(turned, 128), expected)


BOMBS = {
    "PNG": png_of(50_000, 50_000),
    "GIF": gif_of(60_000, 60_000),
    "JPEG": jpeg_of(65_535, 65_535),
    "WEBP": webp_of(16_000, 16_000),
    "BMP": bmp_of(50_000, 50_000),
    "TIFF": tiff_of(50_000, 50_000),
    "PPM": b"P6 50000 50000 255\n" + bytes(1000),
}


HARMFUL = {
    "tile": tiff_of_tile(20_000, 20_000),
    "strips": tiff_of_strips(600_000),
    "scans": jpeg_of_scans(200),
    "texts": png_of_texts(80),
    "segments": jpeg_of_segments(2_000_000),
    "chunks": png_of_chunks(500_000),
    "blocks": gif_of_blocks(4_000_000),
    "runs": bmp_of_runs(5000, 2000, b"\1\1\0\0" * 2000),
    "comments": ppm_of_comments(4_000_000),
}
REFUSED = {
    "empty": (b"", "^empty file$"),
    "text": (b"hello, I am no photo", r"^not an image of a known format \(JPEG, .*, AVIF\)$"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image .*; it looks like SVG"),
    "pdf": (b"%PDF-1.7", "not an image .*; it looks like PDF"),
    "tile": (HARMFUL["tile"], "tiles of 20000 x 20000 pixels"),
    "strips": (HARMFUL["strips"], "a TIFF of 600000 pieces"),
    "scans": (HARMFUL["scans"], "a JPEG of more than 100 scans"),
    "texts": (HARMFUL["texts"], "broken image: .*text chunks"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refusals_say_why(what: str) -> None:
    content, said = REFUSED[what]
    with pytest.raises(DecodeError, match=said):
        opened(content)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF"])
def test_a_photo_that_is_cut_off_is_refused(kind: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    whole = encoded(noise, kind)
    assert opened(whole).size == (60, 40)
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(DecodeError):
            opened(whole[: int(len(whole) * share)])


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_from_its_header(kind: str) -> None:
    with pytest.raises(DecodeError, match=r"^\d+(\.\d+)? megapixels, over the limit of 10 megapixels$"):
        opened(BOMBS[kind])


MEASURED = """
import re, sys
from pathlib import Path
from cairn.photos import DecodeError, decode

def peak():  # unlike getrusage's, of this program alone
    return int(re.search("VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

content = sys.stdin.buffer.read()
before = peak()
try:
    decode(content, 256, 100.0)
except DecodeError as error:
    print(error)
print(peak() - before)
"""


LARGEST = BOMBS | HARMFUL | {"lying AVIF": avif_of(4000, 10)}


@pytest.mark.parametrize("what", LARGEST)
def test_what_a_bomb_takes_is_bounded(what: str) -> None:
    """In a process of its own, whose peak memory is measured. What an AVIF lies about, its decoder bounds."""
    done = subprocess.run([sys.executable, "-c", MEASURED], input=LARGEST[what], capture_output=True, check=True)
    *_, kilobytes = done.stdout.split()
    assert int(kilobytes) < 100_000


def test_limits_of_several_threads_do_not_harm_each_other() -> None:
    large = encoded(PICTURE.resize((3000, 1000)), "PNG")

    def tried(limit: float) -> str:
        try:
            return str(decode(large, 100, limit).size)
        except DecodeError as error:
            return str(error)

    limits = [2.0, 4.0, 50.0, 1.0] * 10
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(tried, limits))
    assert got == [
        "(300, 100)" if limit > 3 else f"3 megapixels, over the limit of {limit:g} megapixels" for limit in limits
    ]


def test_two_large_photos_at_once_and_broken_ones_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most, lock = 0, 0, Lock()
    convert = photos.to_rgb

    def counted(image: Image.Image) -> Image.Image:
        nonlocal inside, most
        with lock:
            inside, most = inside + 1, max(most, inside + 1)
        time.sleep(0.02)
        with lock:
            inside -= 1
        return convert(image)

    monkeypatch.setattr(photos, "to_rgb", counted)
    whole = encoded(PICTURE, "PNG")

    def tried(content: bytes) -> bool:
        with suppress(DecodeError):
            return opened(content).size == (60, 40)
        return False

    for large, at_once in ((25.0, 8), (0.001, 2)):
        monkeypatch.setattr(photos, "LARGE_MEGAPIXELS", large)
        most = 0
        with ThreadPoolExecutor(8) as pool:
            got = list(pool.map(tried, [whole, whole[:-30]] * 16))
        assert got == [True, False] * 16
        assert 2 <= most <= at_once
