"""What a file's headers say before a decoder sees it: what it is if it is no photo, and whether it was built to harm.

A decoder takes memory and time by what a file claims. A size in pixels is checked by cairn.photos; here are the claims
that come beside it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from itertools import islice
from typing import Literal, NamedTuple

MAX_SCANS = 100  # of a JPEG, each decoded over the whole image; encoders make some 10
MAX_PIECES = 500_000  # strips or tiles of a TIFF, chunks of a PNG; a row a strip and 64 x 64 a tile stay far below
MAX_SEGMENTS = 10_000  # of a JPEG; chunks of a PNG that hold no pixels
MAX_BLOCKS = 100_000  # of text and the like before the first frame of a GIF
MAX_JUNK = 1_000_000  # bytes of a JPEG that belong to no segment, of a PPM's header; read one by one
MAX_PER_BYTE = 128  # pixels of a run-length BMP: 2 bytes stand for 255, unless rows are left empty
MAX_COMMENTS = 1000  # of a plain PPM: Pillow copies up to a megabyte to leave one out

# Entropy-coded data hold no marker but stuffed zeros and restarts.
JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
PPM_BEGINNING = re.compile(rb"P[0-7fy]")
PPM_COMMENT = re.compile(rb"#[^\r\n]*")
JPEG_START, JPEG_END, JPEG_SCAN, JPEG_ALONE = 0xD8, 0xD9, 0xDA, 0x01

TIFF_INTEGERS = {1: 1, 3: 2, 4: 4, 6: 1, 8: 2, 9: 4, 13: 4, 16: 8, 17: 8, 18: 8}  # bytes of each integer type
STRIP_OFFSETS, TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS = 273, 322, 323, 324

HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
BEGINNINGS: dict[str, bytes | tuple[bytes, ...]] = {
    "JPEG": b"\xff\xd8\xff",
    "PNG": b"\x89PNG",
    "GIF": b"GIF8",
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "BMP": b"BM",
    "PDF": b"%PDF",
    "JPEG XL": (b"\xff\x0a", b"\0\0\0\x0cJXL "),
    "an icon": b"\0\0\1\0",
}
WAYS_OUT = {
    "HEIC": "save it as JPEG, as the phone or `heif-convert` does",
    "SVG": "a drawing; save it as PNG",
    "PDF": "a document; save its pictures as JPEG",
    "a web page": "perhaps one that says why there is no photo",
    "JPEG XL": "save it as JPEG",
    "an icon": "save it as PNG",
    "a video": "save one of its frames as JPEG",
}


def harm(content: bytes, max_megapixels: float) -> str | None:
    """Why a decoder should not see a file, if it should not: more parts or larger tiles than a photo has."""
    if content.startswith(b"\xff\xd8"):
        return _harm_of_jpeg(content)
    if content.startswith(b"\x89PNG"):
        return _harm_of_png(content)
    if content.startswith(b"GIF8"):
        blocks = sum(1 for _ in islice(_gif_blocks(content), MAX_BLOCKS + 1))
        return f"a GIF of more than {MAX_BLOCKS} blocks before its first frame" if blocks > MAX_BLOCKS else None
    if content[:2] in (b"II", b"MM"):
        return _harm_of_tiff(_tiff_fields(content), max_megapixels)
    if content.startswith(b"BM"):
        return _harm_of_bmp(content)
    return _harm_of_ppm(content) if PPM_BEGINNING.match(content) else None


def hint(content: bytes) -> str:
    """What a file that cannot be opened looks like, and what to do with it; empty if nothing is known."""
    kind = _kind(content)
    if kind in WAYS_OUT:
        return f"; it looks like {kind}: {WAYS_OUT[kind]}"
    return "" if kind is None else f"; it begins like {kind}, but its header is broken"


def _kind(content: bytes) -> str | None:
    if content[4:8] == b"ftyp":
        return _kind_of_media(content[8 : min(int.from_bytes(content[:4], "big"), 256)])
    if content.startswith(b"RIFF"):
        return {b"WEBP": "WEBP", b"AVI ": "a video"}.get(content[8:12])
    start = content[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"<") and b"<svg" in start:
        return "SVG"
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    return next((kind for kind, beginnings in BEGINNINGS.items() if content.startswith(beginnings)), None)


def _kind_of_media(brands: bytes) -> str:
    """By the brands of an ISO media file, 4 bytes each."""
    known = {brands[i : i + 4] for i in range(0, len(brands), 4)}
    if known & {b"avif", b"avis"}:
        return "AVIF"
    return "HEIC" if known & HEIC_BRANDS else "a video"


def _harm_of_jpeg(content: bytes) -> str | None:
    """By the markers of its first image."""
    at, scans, segments, junk = 2, 0, 0, 0
    while marker := JPEG_MARKER.search(content, at):
        junk += 0 if scans else marker.start() - at
        code, at = content[marker.end() - 1], marker.end()
        if code == JPEG_END:
            break
        scans, segments = scans + (code == JPEG_SCAN), segments + 1
        if scans > MAX_SCANS:
            return f"a JPEG of more than {MAX_SCANS} scans"
        if segments > MAX_SEGMENTS:
            return f"a JPEG of more than {MAX_SEGMENTS} segments"
        if code not in (JPEG_START, JPEG_ALONE):  # all others have a length
            at += int.from_bytes(content[at : at + 2], "big")
    junk += 0 if scans else max(len(content) - at, 0)
    return f"a JPEG with {junk} bytes of no segment before its pixels" if junk > MAX_JUNK else None


def _harm_of_png(content: bytes) -> str | None:
    """By its chunks; those of pixels are many in a large photo, the others few."""
    at, chunks, others = 8, 0, 0
    while (kind := content[at + 4 : at + 8]) not in (b"", b"IEND"):
        chunks, others = chunks + 1, others + (kind not in (b"IDAT", b"fdAT"))
        if chunks > MAX_PIECES or others > MAX_SEGMENTS:
            return f"a PNG of more than {MAX_PIECES if chunks > MAX_PIECES else MAX_SEGMENTS} chunks"
        at += 12 + int.from_bytes(content[at : at + 4], "big")
    return None


def _gif_blocks(content: bytes) -> Iterator[int]:
    """Where the blocks of extensions begin that stand before the first frame, read as Pillow reads them."""
    at = 13 + (3 << (content[10] & 7) + 1 if len(content) > 10 and content[10] & 128 else 0)
    while at < len(content) and content[at] not in b",;":
        if content[at] != ord("!"):
            yield at
            at += 1
            continue
        # One block is read even if it is empty, behind this name a second; in a comment none.
        named = content[at + 1 : at + 14].endswith(b"NETSCAPE2.0") and content[at + 1] == 0xFF
        unasked = 0 if content[at + 1 : at + 2] == b"\xfe" else 1 + named
        at += 2
        while at < len(content) and (unasked > 0 or content[at]):
            yield at
            at, unasked = at + 1 + content[at], unasked - 1
        at += 1


def _harm_of_bmp(content: bytes) -> str | None:
    """By the pixels that few runs are to fill: Pillow fills what they leave empty one by one, in Python."""
    if len(content) < 34 or content[14] == 12:  # the oldest header knows no runs
        return None
    width, height, _, compression = struct.unpack_from("<iiII", content, 18)
    if compression in (1, 2) and abs(width * height) > MAX_PER_BYTE * len(content):
        return f"a BMP of {abs(width * height)} pixels in runs of {len(content)} bytes"
    return None


def _harm_of_ppm(content: bytes) -> str | None:
    """By where its header ends; before that, where the pixels are text too, by its comments."""
    if content[1:2] in b"123" and any(islice(PPM_COMMENT.finditer(content), MAX_COMMENTS, None)):
        return f"a PPM of more than {MAX_COMMENTS} comments"
    fields = PPM_COMMENT.sub(b"", content[:MAX_JUNK]).split(None, 4)
    if len(content) > MAX_JUNK and len(fields) < (3 if content[1:2] in b"14" else 4):
        return f"a PPM whose header does not end within {MAX_JUNK} bytes"
    return None


class _Field(NamedTuple):
    """An entry of a TIFF's directory."""

    tag: int
    values: int  # how many
    first: int


def _tiff_fields(content: bytes) -> list[_Field]:
    """The integer fields of a TIFF's first directory, as far as it goes."""
    order: Literal["little", "big"] = "little" if content[:2] == b"II" else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(content[at : at + size], order)

    big = 43 in content[2:4]
    wide = 8 if big else 4  # bytes of counts and offsets
    start = number(8, 8) if big else number(4, 4)
    entries = number(start, 8 if big else 2)
    first, length = start + (8 if big else 2), 4 + 2 * wide
    fields = []
    for at in range(first, min(first + entries * length, len(content)), length):
        size = TIFF_INTEGERS.get(number(at + 2, 2))
        if size is None:
            continue
        count, place = number(at + 4, wide), at + 4 + wide
        fields.append(
            _Field(number(at, 2), count, number(place if size * count <= wide else number(place, wide), size))
        )
    return fields


def _harm_of_tiff(fields: list[_Field], max_megapixels: float) -> str | None:
    width = max((field.first for field in fields if field.tag == TILE_WIDTH), default=0)
    length = max((field.first for field in fields if field.tag == TILE_LENGTH), default=0)
    if width * length > max_megapixels * 1e6:
        return f"a TIFF with tiles of {width} x {length} pixels, over the limit of {max_megapixels:g} megapixels"
    pieces = max((field.values for field in fields if field.tag in (STRIP_OFFSETS, TILE_OFFSETS)), default=0)
    return f"a TIFF of {pieces} pieces, over the limit of {MAX_PIECES}" if pieces > MAX_PIECES else None
