"""Tars that are broken, that lie, or that hold what is no photo; good photos lie in all of them."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from harmful import encoded
from hostile.images import photo

BLOCK = 512
Random = np.random.Generator


class Tar(NamedTuple):
    """A shard, and the ids of the good photos that its headers name."""

    kind: str
    name: str
    content: bytes
    ids: list[str]


class Writer:
    """A tar written header by header, so that anything can be said in one."""

    def __init__(self, rng: Random) -> None:
        self.rng, self.ids, self.blocks = rng, list[str](), list[bytes]()

    def good(self, count: int = 1) -> Writer:
        """Photos as GLDv2 has them."""
        for _ in range(count):
            key = self.rng.bytes(8).hex()
            self.ids.append(key)
            self.add(f"{key[0]}/{key[1]}/{key[2]}/{key}.jpg", encoded(photo(self.rng), "JPEG"))
        return self

    def add(self, name: str, content: bytes = b"", size: int | None = None, **fields: object) -> Writer:
        """Any header, and content behind it; `size` is what the header claims."""
        header = tarfile.TarInfo(name)
        header.size = len(content) if size is None else size
        for field, value in fields.items():
            setattr(header, field, value)
        made = header.tobuf(tarfile.GNU_FORMAT, errors="surrogateescape")
        self.blocks.append(made + content + bytes(-len(content) % BLOCK))
        return self

    def pax(self, records: dict[str, str], kind: bytes = tarfile.XHDTYPE) -> Writer:
        """An extended header for what comes next."""
        content = b""
        for key, value in records.items():
            record = f" {key}={value}\n".encode()
            length = len(record) + len(str(len(record) + len(str(len(record)))))
            content += str(length).encode() + record
        return self.add("pax", content, type=kind)

    def renamed(self) -> Writer:
        """What the last photo is if a header before it gives it another name: none that is listed."""
        self.good().ids.pop()
        return self

    def end(self) -> bytes:
        return b"".join(self.blocks) + bytes(2 * BLOCK)


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x40]) + content[at + 1 :]


def tar(kind: str, name: str, writer: Writer, content: bytes | None = None) -> Tar:
    """What was written, or `content` made of it."""
    return Tar(kind, name, writer.end() if content is None else content, writer.ids)


def hostile_tars(seed: int, outside: Path) -> Iterator[Tar]:
    """All of them; `outside` is where absolute paths lead to."""
    rng = np.random.default_rng(seed)

    def start() -> Writer:
        return Writer(rng).good(2)

    yield from _broken(start, rng)
    yield from _lying(start)
    yield from _odd(start, outside)


def _broken(start: Callable[[], Writer], rng: Random) -> Iterator[Tar]:
    whole = start().good(2)
    full, second = whole.end(), len(whole.blocks[0])
    yield tar("whole", "whole", whole)
    yield tar("cut off", "in a photo", whole, full[: second + 700])
    yield tar("cut off", "in a header", whole, full[: second + 100])
    yield tar("cut off", "between photos", whole, full[:second])
    yield tar("cut off", "before its end mark", whole, full[: -2 * BLOCK])
    yield tar("cut off", "nothing left", whole, b"")
    yield tar("cut off", "a byte", whole, b"\0")
    yield tar("broken header", "the first", whole, flipped(full, 30))
    yield tar("broken header", "one within", whole, flipped(full, second + 30))
    yield tar("broken header", "a size within", whole, flipped(full, second + 130))
    yield tar("no tar", "noise", whole, rng.bytes(10_000))
    yield tar("no tar", "zip", whole, b"PK\3\4" + rng.bytes(2000))
    yield tar("no tar", "zeros", Writer(rng), bytes(10 * BLOCK))
    yield tar("size beyond the end", "a little", start().add("a" * 16 + ".jpg", b"x", size=10**5))
    yield tar("size beyond the end", "8 GB", start().add("a" * 16 + ".jpg", b"x", size=8**11 - 1))
    yield tar("size beyond the end", "2^80 bytes", start().add("a" * 16 + ".jpg", b"x", size=2**80))


def _lying(start: Callable[[], Writer]) -> Iterator[Tar]:
    yield tar("size below zero", "in the header", start().add("a" * 16 + ".jpg", b"x", size=-BLOCK))
    yield tar("size below zero", "so that it goes round", start().add("a" * 16 + ".jpg", b"x", size=-3 * BLOCK))
    yield tar("size below zero", "in attributes", start().pax({"size": "-1024"}).good())
    yield tar("attributes", "size of 2^70", start().pax({"size": str(2**70)}).good())
    yield tar("attributes", "size that is no number", start().pax({"size": "many"}).good())
    yield tar("attributes", "a digit 50,000 times", start().add("pax", b"1" * 50_000, type=tarfile.XHDTYPE).good())
    yield tar("attributes", "noise", start().add("pax", b"a=b\n\xff" * 100, type=tarfile.XHDTYPE).good())
    yield tar("attributes", "of no length", start().add("pax", b"0 a=b\n", type=tarfile.XHDTYPE).good())
    yield tar("attributes", "claims 7 GB", start().add("pax", b"x", size=7 * 10**9, type=tarfile.XHDTYPE).good())
    yield tar("attributes", "for all, path", start().pax({"path": "../../evil"}, tarfile.XGLTYPE).renamed())
    yield tar("attributes", "a path that climbs", start().pax({"path": "../../../evil.jpg"}).renamed())
    yield tar("attributes", "for all, 600 kB of them", _for_all(start()))
    names_overlap = b"2 " * 49_000 + b"="
    yield tar("attributes", "names that overlap", start().add("pax", names_overlap, type=tarfile.XHDTYPE).good())
    yield tar("long name", "claims 7 GB", start().add("n", b"x", size=7 * 10**9, type=tarfile.GNUTYPE_LONGNAME).good())
    yield tar("long name", "of 50,000", start().add("n", b"x" * 50_000, type=tarfile.GNUTYPE_LONGNAME).renamed())
    chain = start()
    for _ in range(3000):
        chain.add("n", b"x", type=tarfile.GNUTYPE_LONGNAME)
    yield tar("long name", "3,000 in a row", chain.good())
    yield tar("long name", "nothing behind", start().add("n", b"x", type=tarfile.GNUTYPE_LONGNAME))
    yield tar("holes", "old", start().add("a" * 16 + ".jpg", b"x" * BLOCK, type=tarfile.GNUTYPE_SPARSE))
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "1000000"}
    yield tar("holes", "new, a map without end", start().pax(sparse).add("a.jpg", b"9" * 400 + b"\n" + b"1\n" * 50))
    yield tar("holes", "new, a map of words", start().pax(sparse).add("a.jpg", b"many\n"))
    yield tar("holes", "0.1", start().pax({"GNU.sparse.map": "0,1,9,9", "GNU.sparse.size": "9"}).add("a.jpg", b"x"))


def _for_all(writer: Writer) -> Writer:
    """Attributes that each of 1,200 files gets."""
    for number in range(6):
        writer.pax({f"{number}{at:05}": "" for at in range(9000)}, tarfile.XGLTYPE)
    for number in range(1200):
        writer.add(f"{number}.txt")
    return writer


def _odd(start: Callable[[], Writer], outside: Path) -> Iterator[Tar]:
    yield tar(
        "links and devices", "to a file outside", start().add("l.jpg", type=tarfile.SYMTYPE, linkname="/etc/passwd")
    )
    yield tar(
        "links and devices", "hard, outside", start().add("l.jpg", type=tarfile.LNKTYPE, linkname="../../etc/passwd")
    )
    linked = start().add("linked", type=tarfile.SYMTYPE, linkname=str(outside)).add("linked/evil.jpg", b"x")
    yield tar("links and devices", "a file behind a link", linked)
    yield tar("links and devices", "a device", start().add("d.jpg", type=tarfile.CHRTYPE, devmajor=1, devminor=5))
    yield tar("links and devices", "a pipe", start().add("p.jpg", type=tarfile.FIFOTYPE))
    yield tar("links and devices", "a folder with a size", start().add("d", b"", size=0, type=tarfile.DIRTYPE))
    yield tar("links and devices", "a kind that is none", start().add("z.jpg", b"x", type=b"Z"))
    yield tar("paths", "absolute", start().add(f"{outside}/evil.jpg", b"x"))
    yield tar("paths", "climbing", start().add("../../../evil.jpg", b"x"))
    yield tar("paths", "climbing, of a listed id", _climbing(start()))
    yield tar("paths", "not UTF-8", start().add("\udcff\udcfe.jpg", b"x"))
    yield tar("paths", "a newline", start().add("a\nb\x1b[2J.jpg", b"x"))
    yield tar("paths", "none", start().add("", b"x"))
    double = start()
    double.blocks.append(double.blocks[0])
    yield tar("paths", "one name twice", double)


def _climbing(writer: Writer) -> Writer:
    key = writer.rng.bytes(8).hex()
    writer.ids.append(key)
    return writer.add(f"../../../{key}.jpg", encoded(photo(writer.rng), "JPEG"))
