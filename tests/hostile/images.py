"""Images that are broken, cut off, built to harm, or no images: file name -> kind and bytes, the same for a seed."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from harmful import (
    avif_of,
    bmp_of,
    bmp_of_runs,
    encoded,
    gif_of,
    gif_of_blocks,
    jpeg_of,
    jpeg_of_junk,
    jpeg_of_scans,
    jpeg_of_segments,
    png_chunk,
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

FORMATS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "BMP": "bmp", "GIF": "gif", "TIFF": "tif", "PPM": "ppm"} | {
    "AVIF": "avif"
}
Random = np.random.Generator


class Made(NamedTuple):
    """A file as it lies in a landmark's folder."""

    kind: str
    name: str
    content: bytes


def photo(rng: Random, width: int = 96, height: int = 80) -> Image.Image:
    """Noise that stays noise in any format, so that no two are near duplicates."""
    small = rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.NEAREST)


def hostile_images(seed: int) -> Iterator[Made]:
    """All of them."""
    rng = np.random.default_rng(seed)
    for kind, ending in FORMATS.items():
        yield from _of_format(kind, ending, rng)
    yield from _ways(rng)
    yield from _garbage(rng)
    yield from _polyglots(rng)
    yield from _no_photos(rng)
    yield from _harmful()


def _of_format(kind: str, ending: str, rng: Random) -> Iterator[Made]:
    yield Made("whole", f"{kind}_whole.{ending}", encoded(photo(rng), kind))
    for share in (0.02, 0.3, 0.6, 0.95):
        whole = encoded(photo(rng), kind)
        yield Made("cut off", f"{kind}_cut_{share}.{ending}", whole[: max(3, int(share * len(whole)))])
    for number in range(4):
        whole = bytearray(encoded(photo(rng), kind))
        for at in rng.integers(2, 40, 1 + number):
            whole[at] ^= 1 << int(rng.integers(8))
        yield Made("flipped in the header", f"{kind}_header_{number}.{ending}", bytes(whole))
    whole = bytearray(encoded(photo(rng), kind))
    for at in rng.integers(len(whole) // 2, len(whole), 5):
        whole[at] ^= 0xFF
    yield Made("flipped in the pixels", f"{kind}_pixels.{ending}", bytes(whole))
    for size, what in (((0, 0), "zero"), ((200, 200), "wrong"), ((16_000, 16_000), "huge")):
        yield Made(f"{what} size", f"{kind}_{what}_size.{ending}", CLAIMING[kind](*size))


def _claiming_avif(width: int, height: int) -> bytes:
    return avif_of(64, width)


CLAIMING: dict[str, Callable[[int, int], bytes]] = {
    "JPEG": jpeg_of,
    "PNG": png_of,
    "WEBP": lambda width, height: webp_of(max(width, 1), max(height, 1)),  # it cannot say 0
    "BMP": bmp_of,
    "GIF": gif_of,
    "TIFF": tiff_of,
    "PPM": lambda width, height: f"P6 {width} {height} 255\n".encode() + bytes(1000),
    "AVIF": _claiming_avif,
}


def _in_runs(rng: Random) -> bytes:
    """A BMP of 10 runs a row, 10 rows alike."""
    rows = [b"".join(bytes([10, colour]) for colour in rng.bytes(10)) + b"\0\0" for _ in range(8)]
    return bmp_of_runs(100, 80, b"".join(row * 10 for row in rows) + b"\0\1")


def _ways(rng: Random) -> Iterator[Made]:
    """Sound photos as few people store them."""
    wide = Image.fromarray(np.repeat(np.repeat(rng.integers(0, 65536, (8, 10), dtype=np.uint16), 10, 0), 10, 1))
    yield Made("odd but sound", "palette.png", encoded(photo(rng).quantize(64), "PNG"))
    yield Made("odd but sound", "palette_clear.png", encoded(photo(rng).quantize(64), "PNG", transparency=3))
    yield Made("odd but sound", "runs.bmp", _in_runs(rng))
    yield Made("odd but sound", "cmyk.jpg", encoded(photo(rng).convert("CMYK"), "JPEG"))
    yield Made("odd but sound", "cmyk.tif", encoded(photo(rng).convert("CMYK"), "TIFF"))
    yield Made("odd but sound", "lab.tif", encoded(photo(rng).convert("LAB"), "TIFF"))
    yield Made("odd but sound", "16_bits.png", encoded(wide, "PNG"))
    yield Made("odd but sound", "16_bits.tif", encoded(wide, "TIFF"))
    yield Made("odd but sound", "float.tif", encoded(photo(rng).convert("F"), "TIFF"))
    yield Made("odd but sound", "bits.png", encoded(photo(rng).convert("1"), "PNG"))
    yield Made("odd but sound", "fax.tif", encoded(photo(rng).convert("1"), "TIFF", compression="group4"))
    yield Made("odd but sound", "alpha.png", encoded(photo(rng).convert("RGBA"), "PNG"))
    yield Made("odd but sound", "grey_alpha.png", encoded(photo(rng).convert("LA"), "PNG"))
    yield Made("odd but sound", "alpha.webp", encoded(photo(rng).convert("RGBA"), "WEBP", lossless=True))
    yield Made("odd but sound", "progressive.jpg", encoded(photo(rng), "JPEG", progressive=True))
    for kind, ending in (("GIF", "gif"), ("WEBP", "webp"), ("PNG", "png"), ("TIFF", "tif"), ("MPO", "jpg")):
        frames = [photo(rng) for _ in range(3)]
        yield Made(
            "animated", f"{kind}_animated.{ending}", encoded(photo(rng), kind, save_all=True, append_images=frames)
        )
    for orientation in range(2, 10):  # 9 is none
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield Made("EXIF-rotated", f"turned_{orientation}.jpg", encoded(photo(rng), "JPEG", exif=exif))


def _garbage(rng: Random) -> Iterator[Made]:
    """Sound pixels with metadata that are none."""
    for kind, ending in (("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp")):
        for number, garbage in enumerate((rng.bytes(300), b"II*\0\xff\xff\xff\x7f" + rng.bytes(40), b"")):
            content = encoded(photo(rng), kind, exif=b"Exif\0\0" + garbage)
            yield Made("EXIF garbage", f"{kind}_exif_{number}.{ending}", content)
    # An offset back to the directory itself, and a count of entries that are not there.
    for number, garbage in enumerate(
        (b"II*\0\x08\0\0\0\xff\xff", b"MM\0*\0\0\0\x08\0\x01\x87\x69\0\x04\0\0\0\x01\0\0\0\x08")
    ):
        content = encoded(photo(rng), "JPEG", exif=b"Exif\0\0" + garbage)
        yield Made("EXIF garbage", f"loop_{number}.jpg", content)
    for kind, ending in (("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("TIFF", "tif"), ("AVIF", "avif")):
        content = encoded(photo(rng), kind, icc_profile=rng.bytes(500))
        yield Made("ICC garbage", f"{kind}_icc.{ending}", content)


def _polyglots(rng: Random) -> Iterator[Made]:
    jpeg, png, gif = (encoded(photo(rng), kind) for kind in ("JPEG", "PNG", "GIF"))
    yield Made("polyglot", "jpeg_and_zip.jpg", jpeg + _zip({"a.txt": b"a"}))
    yield Made("polyglot", "png_and_page.png", png + b"<html><script>alert(1)</script></html>")
    yield Made("polyglot", "gif_and_script.gif", gif + b"*/=1;alert(1)//")
    yield Made("polyglot", "pdf_and_jpeg.jpg", b"%PDF-1.7\n" + jpeg)
    yield Made("polyglot", "page_and_jpeg.html.jpg", b"<html>" + jpeg)
    yield Made("polyglot", "comment.jpg", encoded(photo(rng), "JPEG", comment=b"<?php system('id'); ?>"))
    yield Made("polyglot", "text.png", png[:-12] + png_chunk(b"tEXt", b"a\0<script>") + png[-12:])
    yield Made("polyglot", "two_jpegs.jpg", encoded(photo(rng), "JPEG") + jpeg)
    yield Made("polyglot", "gif_first.jpg", b"GIF89a" + jpeg)
    for kind, ending in (("JPEG", "png"), ("PNG", "jpg"), ("WEBP", "gif"), ("GIF", "jpg"), ("AVIF", "webp")):
        yield Made("wrong ending", f"really_{kind}.{ending}", encoded(photo(rng), kind))


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def _tar(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        header = tarfile.TarInfo("photo.jpg")
        header.size = len(content)
        tar.addfile(header, io.BytesIO(content))
    return buffer.getvalue()


def _no_photos(rng: Random) -> Iterator[Made]:
    jpeg = encoded(photo(rng), "JPEG")
    nested = b"0" * 10**6
    for _ in range(4):
        nested = _zip({"a.zip": nested, "b.zip": nested})
    heic = struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic" + rng.bytes(200)
    files = {
        "empty.jpg": b"",
        "one_byte.jpg": b"\xff",
        "zeros.jpg": bytes(5000),
        "noise.jpg": rng.bytes(5000),
        "text.jpg": b"I am no photo\n" * 100,
        "drawing.jpg": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        "entities.jpg": b"<?xml version='1.0'?><!DOCTYPE svg [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><svg>&a;</svg>",
        "page.jpg": b"<!DOCTYPE html><title>404</title>",
        "phone.jpg": heic,
        "film.jpg": struct.pack(">I", 16) + b"ftypmp42" + bytes(4) + rng.bytes(500),
        "document.jpg": b"%PDF-1.7\n" + rng.bytes(500),
        "drawing.eps.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nsystemdict /quit get exec\n",
        "icon.jpg": b"\0\0\1\0\1\0\x10\x10\0\0\1\0\x20\0" + rng.bytes(200),
        "xl.jpg": b"\xff\x0a" + rng.bytes(200),
        "raw.jpg": b"FUJIFILMCCD-RAW " + rng.bytes(500),
        "zipped.jpg": _zip({"photo.jpg": jpeg}),
        "nested.jpg": nested,
        "packed.jpg": _tar(jpeg),
        "gzipped.jpg": b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + zlib.compress(jpeg)[2:],
        "pickled.jpg": b"cposix\nsystem\n(S'touch ../../evil'\ntR.",
    }
    for name, content in files.items():
        yield Made("no photo", name, content)
    beginnings = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBPVP8 ", b"BM", b"GIF89a", b"II*\0", b"P6 ")
    for number, start in enumerate((*beginnings, b"\0\0\0\x20ftypavif")):
        yield Made("a beginning alone", f"beginning_{number}.jpg", start)
        yield Made("a beginning alone", f"beginning_and_noise_{number}.jpg", start + rng.bytes(2000))


def _harmful() -> Iterator[Made]:
    long = encoded(Image.effect_noise((1, 1), 1).convert("RGB").resize((300, 80_000)), "PNG")
    files = {
        "tile.tif": tiff_of_tile(20_000, 20_000),
        "strips.tif": tiff_of_strips(600_000),
        "scans.jpg": jpeg_of_scans(200),
        "segments.jpg": jpeg_of_segments(100_000),
        "junk.jpg": jpeg_of_junk(2_000_000),
        "texts.png": png_of_texts(80),
        "chunks.png": png_of_chunks(20_000),
        "blocks.gif": gif_of_blocks(200_000),
        "empty_rows.bmp": bmp_of_runs(5000, 2000, b"\1\1\0\0" * 2000),
        "comments.ppm": ppm_of_comments(500_000),
        "lying.avif": avif_of(2000, 10),
        "long.png": long,
    }
    for name, content in files.items():
        yield Made("built to harm", name, content)
    for width, height in ((1, 1), (1, 5000), (31, 31), (4000, 40)):
        yield Made(
            "odd shape", f"{width}x{height}.png", encoded(Image.new("RGB", (width, height), (9, 99, 200)), "PNG")
        )
