"""What a folder of photos may hold: landmarks and photos of odd names, links, pipes, files that are no photos."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from harmful import encoded
from hostile.images import photo

NAMES: dict[str, bytes] = {
    "newline": b"new\nline",
    "return": b"re\rturn",
    "escape sequence": b"\x1b]0;owned\x07\x1b[2J",
    "other control characters": bytes([*range(1, 32), 127]),
    "not UTF-8": b"caf\xe9",
    "half a character": b"\xed\xa0\x80",
    "overlong UTF-8": b"\xc0\xae\xc0\xae",
    "C1 control": "\x9b2J".encode(),
    "255 bytes": b"x" * 255,
    "leading dash": b"--help",
    "leading equals": b"=cmd|' /C calc'!A0",
    "dots": b"...",
    "dots and a space": b".. ",
    "spaces": b"   ",
    "quotes": b"\"'`",
    "shell": b"$(id);`id`|id&",
    "formula of mathematics": rb"$\frac{",
    "format": b"%s%n{0}{__class__}",
    "page": b"<script>alert(1)<",
    "backslash": b"..\\..\\evil",
    "right to left": "\u202egpj.exe".encode(),
    "no width": "\u200b\ufeff".encode(),
    "outside the plane": "\U0001f5ff\U000e0041".encode(),
    "device of another system": b"CON",
}
DEEP = 1500  # folders: more than Python's functions may call one another


class Put(NamedTuple):
    """An entry of the tree; `taken`: its photo belongs in the manifest, otherwise it is left out and counted."""

    kind: str
    name: str
    path: bytes
    taken: bool


def put_all(root: Path, outside: Path, seed: int) -> Iterator[Put]:
    """Put them below `root`, a folder of landmarks; `outside` is what links lead to."""
    rng = np.random.default_rng(seed)
    top = os.fsencode(root)

    def write(path: bytes) -> bytes:
        Path(os.fsdecode(path)).parent.mkdir(parents=True, exist_ok=True)
        Path(os.fsdecode(path)).write_bytes(encoded(photo(rng), "PNG"))
        return path

    for name, raw in NAMES.items():
        shown = not raw.startswith(b".")
        short = raw[:200] + b"%d" % len(raw) if len(raw) > 200 else raw
        yield Put("name of a photo", name, write(top + b"/Names/" + (raw if len(raw) > 200 else raw + b".png")), shown)
        for number in range(2):
            path = write(top + b"/" + short + b"/%d.png" % number)
        yield Put("name of a landmark", name, path, shown)
    yield Put("name of a photo", "composed", write(top + "/Names/\u00e9.png".encode()), True)
    yield Put("name of a photo", "decomposed", write(top + "/Names/e\u0301.png".encode()), True)
    yield Put("name of a photo", "in 1,500 folders", _deep(top, encoded(photo(rng), "PNG")), True)

    secret = outside / "secret.jpg"
    secret.write_bytes(encoded(photo(rng), "JPEG"))
    names = root / "Names"
    for name, path, target in (
        ("to a file outside", names / "outside.jpg", str(secret)),
        ("to a folder outside", names / "folder", str(outside)),
        ("to a landmark outside", root / "Linked", str(outside)),
        ("climbing", names / "climbing.jpg", "../../outside/secret.jpg"),
        ("to nothing", names / "broken.jpg", "nothing.jpg"),
        ("to itself", names / "itself.jpg", "itself.jpg"),
        ("to a name of 300 letters", names / "long.jpg", "x" * 300),
        ("to the folder above", names / "loop", ".."),
        ("to a device", names / "zero.jpg", "/dev/zero"),
        ("to the process", names / "self.jpg", "/proc/self/environ"),
    ):
        path.symlink_to(target)
        yield Put("link", name, os.fsencode(path), False)
    os.link(write(top + b"/Names/first.png"), top + b"/Names/hard.png")
    yield Put("link", "hard, within", top + b"/Names/hard.png", True)

    os.mkfifo(names / "pipe.jpg")
    yield Put("no file", "pipe", os.fsencode(names / "pipe.jpg"), False)
    with socket.socket(socket.AF_UNIX) as bound:
        here = Path.cwd()
        os.chdir(names)  # a socket's path is short
        bound.bind("socket.jpg")
        os.chdir(here)
    yield Put("no file", "socket", os.fsencode(names / "socket.jpg"), False)
    with (names / "huge.mp4").open("wb") as file:
        file.truncate(50 * 10**9)
    yield Put("no file", "of 50 GB", os.fsencode(names / "huge.mp4"), False)
    for name in (".hidden.jpg", "notes.txt", "Thumbs.db", "labels.CSV"):
        (names / name).write_bytes(b"x")
        yield Put("no photo", name, os.fsencode(names / name), False)
    yield Put("no photo", "in a hidden folder", write(top + b"/Names/.git/a.jpg"), False)


def _deep(top: bytes, content: bytes) -> bytes:
    """A photo that many folders lead to, one in another."""
    path = top + b"/Deep"
    for _ in range(DEEP):
        Path(os.fsdecode(path)).mkdir()
        path += b"/d"
    Path(os.fsdecode(path[:-2] + b"/a.png")).write_bytes(content)
    return path[:-2] + b"/a.png"
