"""Valid tars, manifests and params files, and strategies that change them a little: what fuzz_readers.py tries.

A changed header gets its checksum, a changed footer its length, so that what is wrong is found behind those checks.
"""

from __future__ import annotations

import io
import re
import struct
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from cairn.manifest import IMAGES

ROOT = Path(__file__).parents[1]
INTERESTING = [
    b"\0",
    b"\xff",
    b"\x80",
    b"\x7f\xff\xff\xff",
    b"\xff" * 8,
    b"\0" * 8,
    b"\x80" + b"\0" * 7,
    b"\n",
    b"0",
    b"9" * 12,
]
BLOCK = 512
FIELDS = {  # of a tar's header: where each begins, and its length
    "name": (0, 100),
    "mode": (100, 8),
    "size": (124, 12),
    "time": (136, 12),
    "sum": (148, 8),
    "type": (156, 1),
    "link": (157, 100),
    "magic": (257, 8),
    "device": (329, 16),
    "prefix": (345, 155),
}
NUMBERS = [
    b"7" * 11 + b"\0",
    b"0" * 11 + b"\0",
    b"00000001000\0",
    b" " * 12,
    b"-0000000001\0",
    b"\x80" + b"\0" * 9 + b"\x10\0",
    b"\x80" + b"\xff" * 11,
    b"\xff" * 12,
    b"\xff" * 10 + b"\xfe\0",
    b"9" * 12,
]
TYPES = [bytes([code]) for code in b"0\0123456789xgLKSDVXZ"]
SCALARS = """null true -1 0 1e999 .nan .inf 999999999999999999999999999999 [] {} '' *a 0o17 0x 1_0 << - | > % @ ` ? &a
    !a 2020-13-45 2001-12-14t21:59:43.10-25:99 !!int !!float !!set !!binary !!timestamp "\\0" "\\ud800" {a:1}"""

Place = st.integers(0, 2**20)  # of an edit: taken modulo the length
_EDIT = st.tuples(
    st.integers(0, 6), Place, st.one_of(st.sampled_from(INTERESTING), st.binary(max_size=12)), st.integers(0, 300)
)


def edited(content: bytes, edits: Sequence[tuple[int, int, bytes, int]], other: bytes) -> bytes:
    """Bytes flipped, overwritten, cut, left out, put in, repeated, or taken from another file."""
    for kind, place, piece, count in edits:
        at = place % (len(content) + 1)
        if kind == 0 and at < len(content):
            content = content[:at] + bytes([content[at] ^ 1 << count % 8]) + content[at + 1 :]
        elif kind == 1:
            content = content[:at] + piece + content[at + len(piece) :]
        elif kind == 2 and count % 8 == 0:  # what is cut is soon refused
            content = content[:at]
        elif kind == 3:
            content = content[:at] + content[at + count % 32 :]
        elif kind == 4:
            content = content[:at] + piece + content[at:]
        elif kind == 5:
            content = content[:at] + content[max(0, at - count) : at] + content[at:]
        elif kind == 6:
            content = content[:at] + other[at : at + count] + content[at + count :]
    return content


EDITS = st.lists(_EDIT, max_size=4)


def tars() -> list[bytes]:
    """Of each format, with long names, links, folders, attributes and holes."""
    made = []
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=kind) as tar:
            for number in range(3):
                header = tarfile.TarInfo(f"{number}" * (90 if kind == tarfile.USTAR_FORMAT else 150))
                header.size = 300 * number
                if kind == tarfile.PAX_FORMAT:
                    header.pax_headers = {"comment": "a", "size": str(header.size), "mtime": "1.5"}
                tar.addfile(header, io.BytesIO(bytes(header.size)))
            for code in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE):
                header = tarfile.TarInfo("other")
                header.type, header.linkname = code, "x" * 90
                tar.addfile(header)
        made.append(buffer.getvalue()[: -8 * BLOCK])
    return made


@st.composite
def _shard(draw: st.DrawFn) -> bytes:
    """A tar with fields of its headers set to what they should not be, and a few other edits."""
    content = bytearray(draw(st.sampled_from(TARS)))
    headers = [at for at in range(0, len(content), BLOCK) if content[at + 257 : at + 262] == b"ustar"]
    for at in draw(st.lists(st.sampled_from(headers), max_size=3)):
        name = draw(st.sampled_from(sorted(FIELDS)))
        start, length = FIELDS[name]
        values = {"size": NUMBERS, "time": NUMBERS, "type": TYPES}.get(name)
        value = draw(st.sampled_from(values) if values and draw(st.integers(0, 7)) else st.binary(max_size=length))
        content[at + start : at + start + length] = value[:length].ljust(length, b"\0")
        if name != "sum":
            content[at + 148 : at + 156] = b" " * 8
            content[at + 148 : at + 156] = b"%06o\0 " % sum(content[at : at + BLOCK])
    edits = draw(EDITS) if draw(st.booleans()) else []
    # Contents, attributes and names lie between the headers: there no checksum is in the way.
    inside = [(kind, place // BLOCK * BLOCK + place % 200, piece, 0) for kind, place, piece, _ in edits if kind < 2]
    return edited(bytes(content), inside or edits, draw(st.sampled_from(TARS)))


def manifests() -> list[bytes]:
    """Tables of each encoding and of other kinds of columns."""
    rows = [
        {
            "image_id": f"{number:016x}",
            "shard": f"shard_{number % 2:05d}.tar",
            "offset": 512 * number,
            "size": 10,
            "landmark_id": None if number % 5 == 0 else number % 3,
            "source_name": f"x/{number}.jpg",
            "author": "é" * (number % 4),
            "licence": None,
        }
        for number in range(40)
    ]
    table = pa.Table.from_pylist(rows, schema=IMAGES)
    ways: list[dict[str, object]] = [
        {"compression": "zstd", "store_schema": False},
        {"compression": "none"},
        {"compression": "none", "use_dictionary": False, "data_page_version": "2.0"},
        {"compression": "snappy", "row_group_size": 7},
        {"compression": "none", "use_dictionary": False, "column_encoding": {"offset": "DELTA_BINARY_PACKED"}},
        {"compression": "none", "use_dictionary": False, "column_encoding": {"image_id": "DELTA_BYTE_ARRAY"}},
        {"compression": "gzip", "write_page_checksum": True},
    ]
    other = [
        table.set_column(0, "image_id", table["image_id"].cast(pa.large_string())),
        table.set_column(0, "image_id", pa.array(range(40))),
        table.set_column(1, "shard", table["shard"].dictionary_encode()),
        table.set_column(2, "offset", pa.array([[1]] * 40)),
        table.set_column(2, "offset", pa.array([{"a": 1}] * 40)),
        table.set_column(3, "size", pa.array([2**63] * 40, pa.uint64())),
        table.set_column(4, "landmark_id", pa.array([1.5] * 40)),
        table.set_column(5, "source_name", pa.array([None] * 40, pa.string())),
        table.drop_columns(["licence"]),
        table.slice(0, 0),
    ]
    return [_parquet(table, **way) for way in ways] + [_parquet(each, compression="none") for each in other]


def _parquet(table: pa.Table, **options: object) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


@st.composite
def _table(draw: st.DrawFn) -> bytes:
    """A manifest with edits in its pages or its footer, whose length is put right."""
    content = draw(st.sampled_from(MANIFESTS))
    footer = len(content) - 8 - struct.unpack("<I", content[-8:-4])[0]
    other = draw(st.sampled_from(MANIFESTS))
    where = draw(st.integers(0, 5))
    if where == 0:
        return edited(content, draw(EDITS), other)
    if where < 3:
        same = [(kind % 2, place, piece, count) for kind, place, piece, count in draw(EDITS)]  # of the same length
        return edited(content[:footer], same, other)[:footer].ljust(footer, b"\0") + content[footer:]
    changed = edited(content[footer:-8], draw(EDITS), other[-300:])
    return content[:footer] + changed + struct.pack("<I", len(changed)) + b"PAR1"


def params_files() -> list[str]:
    """The project's params, and parts of them, which are read faster."""
    whole = (ROOT / "params.yaml").read_text()
    blocks = re.split(r"^(?=\S)", whole, flags=re.MULTILINE)
    parts = ["".join(blocks[start : start + 3]) for start in range(1, len(blocks), 2)]
    return [whole, *parts, "a: &a [1]\nb: *a\n"]


@st.composite
def _document(draw: st.DrawFn) -> bytes:
    """A params file with values, lines and bytes changed."""
    whole = draw(st.integers(0, 9)) == 0  # the whole of it takes most of the time
    lines = (PARAMS[0] if whole else draw(st.sampled_from(PARAMS[1:]))).split("\n")
    for _ in range(draw(st.integers(0, 3))):
        at = draw(Place) % len(lines)
        kind = draw(st.integers(0, 6))
        value = draw(st.sampled_from(SCALARS.split())) if draw(st.integers(0, 3)) else draw(st.text(max_size=8))
        if kind < 3:
            lines[at] = f"{lines[at].split(':')[0]}: {value}"
        elif kind == 3:
            lines.insert(at, lines[at])
        elif kind == 4:
            lines[at] = " " * draw(st.integers(0, 6)) + lines[at].strip()
        elif kind == 5:
            del lines[at]
            lines = lines or [""]
        else:
            lines.insert(at, value)
    content = "\n".join(lines).encode("utf-8", "surrogatepass")
    return edited(content, draw(EDITS), content[::-1]) if draw(st.booleans()) else content


TARS, MANIFESTS, PARAMS = tars(), manifests(), params_files()


def shards() -> st.SearchStrategy[bytes]:
    """Tars. (A strategy's own maker cannot be sent to another process.)"""
    return _shard()


def tables() -> st.SearchStrategy[bytes]:
    """Manifests."""
    return _table()


def documents() -> st.SearchStrategy[bytes]:
    """Params files."""
    return _document()
