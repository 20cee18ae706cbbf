"""What headers say: files that are no photos are named, harmful ones refused, and all others let through."""

from __future__ import annotations

import io
import struct
from contextlib import suppress

import numpy as np
import pytest
from harmful import (
    bmp_of_runs,
    encoded,
    gif_of_blocks,
    jpeg_of_junk,
    jpeg_of_scans,
    jpeg_of_segments,
    png_of_chunks,
    ppm_of_comments,
    tiff,
    tiff_of_strips,
    tiff_of_tile,
)
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, UnidentifiedImageError

from cairn.headers import (
    MAX_BLOCKS,
    MAX_COMMENTS,
    MAX_JUNK,
    MAX_PIECES,
    MAX_SCANS,
    MAX_SEGMENTS,
    _gif_blocks,
    harm,
    hint,
)

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8))


def box(brand: bytes, *others: bytes) -> bytes:
    """The beginning of an ISO media file."""
    content = b"ftyp" + brand + bytes(4) + b"".join(others)
    return struct.pack(">I", len(content) + 4) + content + bytes(50)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (box(b"heic", b"mif1"), "it looks like HEIC: save it as JPEG"),
        (box(b"mif1", b"heic"), "HEIC"),
        (box(b"isom", b"mp42"), "a video"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\xef\xbb\xbf <!DOCTYPE html><title>404</title>", "a web page"),
        (b"%PDF-1.7", "PDF"),
        (b"\xff\x0a\0\0", "JPEG XL"),
        (b"\0\0\1\0\1\0", "an icon"),
        (box(b"mif1", b"avif"), "it begins like AVIF, but its header is broken"),
        (encoded(PICTURE, "PNG")[:20], "it begins like PNG, but its header is broken"),
        (encoded(PICTURE, "JPEG")[:20], "it begins like JPEG, but its header is broken"),
        (b"II*\0", "it begins like TIFF"),
    ],
)
def test_files_that_are_no_photos_are_named_with_what_to_do(content: bytes, said: str) -> None:
    assert said in hint(content)


def test_nothing_is_said_of_what_is_not_known() -> None:
    assert hint(b"hello, I am no photo") == ""
    assert hint(b"") == ""


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF"])
def test_photos_are_let_through(kind: str) -> None:
    assert harm(encoded(PICTURE, kind), 1) is None


@pytest.mark.parametrize(("allowed", "scans"), [(True, MAX_SCANS - 20), (False, MAX_SCANS + 1)])
def test_scans_of_a_jpeg(allowed: bool, scans: int) -> None:
    content = jpeg_of_scans(scans)
    Image.open(io.BytesIO(content)).load()  # the decoder goes through all of them
    assert (harm(content, 1) is None) == allowed


def test_scans_of_the_first_image_alone_are_counted() -> None:
    """Phones put more images, and films, behind the end of the first."""
    assert harm(encoded(PICTURE, "JPEG") + jpeg_of_scans(2 * MAX_SCANS), 1) is None
    assert harm(encoded(PICTURE, "JPEG", exif=b"Exif\0\0" + b"\xff\xda\0\2" * 1000), 1) is None


def test_segments_and_junk_of_a_jpeg() -> None:
    assert harm(jpeg_of_segments(MAX_SEGMENTS - 20), 1) is None
    assert harm(jpeg_of_segments(MAX_SEGMENTS + 1), 1) == "a JPEG of more than 10000 segments"
    assert harm(jpeg_of_junk(MAX_JUNK), 1) is None
    assert harm(jpeg_of_junk(MAX_JUNK + 1), 1) == "a JPEG with 1000001 bytes of no segment before its pixels"
    assert harm(b"\xff\xd8\xff" + bytes(2 * MAX_JUNK), 1) is not None
    assert harm(encoded(PICTURE, "JPEG") + bytes(2 * MAX_JUNK), 1) is None


def test_chunks_of_a_png() -> None:
    assert harm(png_of_chunks(MAX_SEGMENTS - 20), 1) is None
    assert harm(png_of_chunks(MAX_SEGMENTS + 1), 1) == "a PNG of more than 10000 chunks"
    assert harm(png_of_chunks(2 * MAX_SEGMENTS, b"IDAT"), 1) is None
    assert harm(encoded(PICTURE, "PNG") + bytes(20 * MAX_SEGMENTS), 1) is None
    assert harm(png_of_chunks(MAX_PIECES + 1, b"IDAT"), 1) == "a PNG of more than 500000 chunks"


@pytest.mark.parametrize(
    "extension", [b"!\xfe", b"!\x01\0", b"!\xf9\x04\0\0\0\0", b"!\xff\x0bNETSCAPE2.0\0", b"x", b""]
)
def test_blocks_of_a_gif(extension: bytes) -> None:
    """Also where a block that is empty hides others from a reader that is stricter than Pillow."""
    assert harm(gif_of_blocks(MAX_BLOCKS // 2 - 10, extension), 1) is None
    assert harm(gif_of_blocks(MAX_BLOCKS + 1, extension), 1) == (
        "a GIF of more than 100000 blocks before its first frame"
    )


@given(st.lists(st.sampled_from([b"!\xfe", b"!\xff\x0bNETSCAPE2.0", b"!\xf9", b"\0", b"\1x", b"\2!,", b"\3a;b", b"q"])))
def test_the_first_frame_of_a_gif_is_where_pillow_finds_it(pieces: list[bytes]) -> None:
    plain = encoded(PICTURE.convert("L").resize((4, 4)), "GIF")
    at = 13 + (3 << (plain[10] & 7) + 1)
    content = plain[:at] + b"".join(pieces) + bytes(3) + plain[plain.index(b",", at) :]
    with suppress(UnidentifiedImageError, EOFError, ValueError):
        frame = Image.open(io.BytesIO(content), formats=["GIF"]).tile[0].offset - 11
        blocks = list(_gif_blocks(content))
        assert content[frame] == ord(",")
        assert not blocks or blocks[-1] < frame
        assert harm(content, 1) is None


@pytest.mark.parametrize("mode", ["L", "RGB", "1"])
@pytest.mark.parametrize("value", [32, 35, 10, 0])
def test_a_ppm_whose_pixels_look_like_its_header(mode: str, value: int) -> None:
    assert harm(encoded(Image.new("L", (1300, 1300), value).convert(mode), "PPM"), 10) is None
    image = Image.fromarray(np.full((4000, 4000), value, dtype=np.uint8))
    assert harm(encoded(image, "PPM"), 100) is None


def test_a_ppm_whose_header_does_not_end() -> None:
    for header in (b"P6 #" + b"x" * MAX_JUNK + b"\n10 10 255\n", b"P4 10" + b" " * MAX_JUNK + b"10\n"):
        assert harm(header + bytes(300), 1) == "a PPM whose header does not end within 1000000 bytes"


def test_runs_of_a_bmp() -> None:
    row = b"\x1e\0\x1e\xff\0\0"  # 30 red, 30 cyan
    content = bmp_of_runs(60, 40, row * 40 + b"\0\1")
    assert harm(content, 1) is None
    image = Image.open(io.BytesIO(content)).convert("RGB")
    assert (image.getpixel((29, 0)), image.getpixel((30, 39))) == ((255, 0, 0), (0, 255, 255))
    fullest = bmp_of_runs(255 * 20, 1000, (b"\xff\7" * 20 + b"\0\0") * 1000)
    assert harm(fullest, 1) is None
    empty = bmp_of_runs(5000, 2000, b"\1\1\0\0" * 2000)
    assert harm(empty, 100) == "a BMP of 10000000 pixels in runs of 9078 bytes"
    assert harm(bmp_of_runs(5000, -2000, b"\1\1\0\0" * 2000), 100) is not None
    assert harm(encoded(PICTURE, "BMP")[:54], 1) is None  # without runs, and cut off


def test_a_bmp_whose_header_is_too_old_for_runs() -> None:
    pixels = b"\0\0\xc8" + b"\0\1\0" + b"\0\0"  # a row, whose second pixel lies where runs would be claimed
    content = b"BM" + struct.pack("<IHHIIHHHH", 26 + 16, 0, 0, 26, 12, 2, 2, 1, 24) + pixels * 2
    assert content[30:34] == b"\1\0\0\0"
    assert harm(content, 1) is None
    assert Image.open(io.BytesIO(content)).getpixel((0, 0)) == (200, 0, 0)


def test_comments_of_a_plain_ppm() -> None:
    content = ppm_of_comments(MAX_COMMENTS)
    assert harm(content, 1) is None
    assert Image.open(io.BytesIO(content)).getpixel((99, 99)) == (9, 9, 9)
    assert harm(ppm_of_comments(MAX_COMMENTS + 1), 1) == "a PPM of more than 1000 comments"
    assert harm(b"P6 10 10 255\n" + b"#\n" * MAX_COMMENTS * 2, 1) is None  # pixels


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiles_of_a_tiff(order: str) -> None:
    assert harm(tiff_of_tile(1000, 1000, order), 1) is None
    assert harm(tiff_of_tile(1000, 1001, order), 1) == (
        "a TIFF with tiles of 1000 x 1001 pixels, over the limit of 1 megapixels"
    )


def test_a_second_tile_width_does_not_hide_the_first() -> None:
    for widths in ([60_000, 1], [1, 60_000]):
        assert harm(tiff([*((322, 4, [width]) for width in widths), (323, 4, [60_000])]), 100) is not None


def test_big_tiff() -> None:
    entries = [(322, 16, 1, 60_000), (323, 16, 1, 60_000)]
    head = b"II\x2b\0" + struct.pack("<HHQ", 8, 0, 16) + struct.pack("<Q", len(entries))
    assert harm(head + b"".join(struct.pack("<HHQQ", *entry) for entry in entries) + bytes(8), 100) is not None
    whole = encoded(PICTURE, "TIFF", big_tiff=True)
    assert harm(whole, 1) is None


def test_pieces_of_a_tiff() -> None:
    assert harm(tiff_of_strips(MAX_PIECES), 1) is None
    assert harm(tiff_of_strips(MAX_PIECES + 1), 1) == "a TIFF of 500001 pieces, over the limit of 500000"


@given(
    st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8\xff", b"II*\0\x08\0\0\0", b"MM\0\x2b", b"\0\0\0\x20ftyp"])
)
def test_any_bytes_are_looked_at_without_an_error(rest: bytes, start: bytes) -> None:
    harm(start + rest, 1)
    hint(start + rest)
