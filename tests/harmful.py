"""Small files built to take memory or time, and files whose headers lie."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence

from PIL import Image


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width: int, height: int) -> bytes:
    """A PNG that claims a size."""
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + png_chunk(b"IDAT", zlib.compress(bytes(1000))) + png_chunk(b"IEND", b"")


def png_of_texts(megabytes: int) -> bytes:
    """A PNG with so much text, compressed a thousandfold."""
    plain = encoded(Image.new("RGB", (10, 10)), "PNG")
    at = plain.index(b"IDAT") - 4
    return plain[:at] + png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**6), 9)) * megabytes + plain[at:]


def gif_of(width: int, height: int) -> bytes:
    """43 bytes; the first frame is larger than the screen, and to be disposed of."""
    screen = b"GIF89a" + struct.pack("<HHBBB", 10, 10, 0x80, 0, 0) + bytes([0, 0, 0, 255, 255, 255])
    control = b"!\xf9\x04" + bytes([2 << 2 | 1, 0, 0, 0]) + b"\0"
    return screen + control + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\x00;"


def jpeg_of(width: int, height: int) -> bytes:
    """A JPEG whose header says another size than its pixels have."""
    plain = encoded(Image.new("RGB", (16, 16)), "JPEG")
    at = plain.index(b"\xff\xc0") + 5
    return plain[:at] + struct.pack(">HH", height, width) + plain[at + 4 :]


def jpeg_of_scans(scans: int, side: int = 64) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    plain = encoded(Image.new("RGB", (side, side), (10, 200, 30)), "JPEG", progressive=True)
    last = plain[plain.rindex(b"\xff\xc4", 0, plain.rindex(b"\xff\xda")) : -2]
    return plain[:-2] + last * scans + b"\xff\xd9"


def jpeg_of_segments(count: int) -> bytes:
    """A JPEG with so many empty segments before its pixels."""
    plain = encoded(Image.new("RGB", (16, 16)), "JPEG")
    return plain[:2] + b"\xff\xe1\0\2" * count + plain[2:]


def jpeg_of_junk(count: int) -> bytes:
    """A JPEG with bytes of no segment before its pixels."""
    plain = encoded(Image.new("RGB", (16, 16)), "JPEG")
    return plain[:20] + bytes(count) + plain[20:]


def png_of_chunks(count: int, kind: bytes = b"prVt") -> bytes:
    """A PNG with so many empty chunks before its pixels."""
    plain = encoded(Image.new("RGB", (10, 10)), "PNG")
    at = plain.index(b"IDAT") - 4
    return plain[:at] + png_chunk(kind, b"") * count + plain[at:]


def gif_of_blocks(count: int, extension: bytes = b"!\xfe") -> bytes:
    """A GIF with an extension of so many blocks before its first frame."""
    plain = encoded(Image.new("L", (10, 10)), "GIF")
    at = 13 + (3 << (plain[10] & 7) + 1)
    return plain[:at] + extension + b"\1x" * count + b"\0" + plain[at:]


def ppm_of_comments(count: int) -> bytes:
    """A plain PPM with so many empty comments among its pixels."""
    return b"P3\n100 100\n255\n" + b"#\n" * count + b"9 " * 30_000


def webp_of(width: int, height: int) -> bytes:
    """A WebP that claims a canvas."""
    plain = encoded(Image.new("RGBA", (10, 10), (1, 2, 3, 4)), "WEBP", xmp=b"<x/>", lossless=True)
    at = plain.index(b"VP8X") + 12
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return plain[:at] + canvas + plain[at + 6 :]


def bmp_of(width: int, height: int) -> bytes:
    plain = encoded(Image.new("RGB", (10, 10)), "BMP")
    return plain[:18] + struct.pack("<ii", width, height) + plain[26:]


def bmp_of_runs(width: int, height: int, runs: bytes) -> bytes:
    """A BMP of runs (how many, which colour); its palette goes from red to cyan."""
    palette = b"".join(bytes([at, at, 255 - at, 0]) for at in range(256))
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0)
    start = 14 + len(info) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(runs), 0, 0, start) + info + palette + runs


def avif_of(true: int, claimed: int) -> bytes:
    """An AVIF of `true` x `true` pixels that claims fewer."""
    plain = encoded(Image.new("L", (true, true)), "AVIF", quality=10, speed=10)
    at = plain.index(b"ispe") + 8
    return plain[:at] + struct.pack(">II", claimed, claimed) + plain[at + 8 :]


def tiff(fields: Sequence[tuple[int, int, Sequence[int]]], pixels: bytes = b"", order: str = "<") -> bytes:
    """A TIFF of one directory; a field is its tag, its type (3: 16 bits, 4: 32 bits) and its values.

    A value -1 stands for where `pixels` begin.
    """
    base = 8 + 2 + 12 * len(fields) + 4
    sizes = [len(values) * (2 if kind == 3 else 4) for _, kind, values in fields]
    behind = base + sum(size for size in sizes if size > 4)
    entries, blob = b"", b""
    for tag, kind, values in sorted(fields):
        numbers = [behind if value == -1 else value for value in values]
        packed = struct.pack(f"{order}{len(numbers)}{'H' if kind == 3 else 'I'}", *numbers)
        if len(packed) > 4:
            packed, blob = struct.pack(f"{order}I", base + len(blob)), blob + packed
        entries += struct.pack(f"{order}HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    return head + struct.pack(f"{order}H", len(fields)) + entries + struct.pack(f"{order}I", 0) + blob + pixels


def tiff_of_tile(width: int, length: int, order: str = "<") -> bytes:
    """16 x 16 pixels in one deflated tile of that size."""
    pixels = zlib.compress(bytes(min(width * length, 4 * 10**8)), 9)
    grey = [(256, 4, [16]), (257, 4, [16]), (258, 3, [8]), (259, 3, [8]), (262, 3, [1]), (277, 3, [1])]
    return tiff([*grey, (322, 4, [width]), (323, 4, [length]), (324, 4, [-1]), (325, 4, [len(pixels)])], pixels, order)


def tiff_of_strips(count: int) -> bytes:
    """16 x 16 pixels in so many strips of no row."""
    grey = [(256, 4, [16]), (257, 4, [16]), (258, 3, [8]), (259, 3, [1]), (262, 3, [1]), (277, 3, [1])]
    return tiff([*grey, (273, 4, [100] * count), (278, 4, [0]), (279, 4, [1])])


def tiff_of(width: int, height: int) -> bytes:
    """A TIFF that claims a size."""
    fields = [(256, 4, [width]), (257, 4, [height]), (258, 3, [8]), (259, 3, [1]), (262, 3, [1]), (277, 3, [1])]
    return tiff([*fields, (273, 4, [-1]), (278, 4, [height]), (279, 4, [16])], bytes(16))
