"""Files that stand where params.yaml should: name -> kind and bytes, made from the project's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Given(NamedTuple):
    """A file, and whether it says nothing wrong."""

    kind: str
    name: str
    content: bytes


def hostile_params(whole: str) -> Iterator[Given]:
    """All of them; `whole` is a sound params.yaml."""

    def seed(kind: str, name: str, value: str) -> Given:
        return Given(kind, name, whole.replace("seed: 1", f"seed: {value}", 1).encode("utf-8", "surrogatepass"))

    for name, value in (
        ("a word", "many"),
        ("nothing", ""),
        ("a list", "[1]"),
        ("a mapping", "{a: 1}"),
        ("a fraction", "1.5"),
        ("true for 1", "true"),
        ("below 0", "-1"),
        ("infinite", ".inf"),
        ("no number", ".nan"),
        ("1e999", "1e999"),
        ("5,000 digits", "9" * 5000),
        ("100,000 letters", "x" * 100_000),
        ("a date", "2020-01-01"),
        ("a day that is none", "2020-13-45"),
        ("an hour that is none", "2001-12-14t21:59:43.10-25:99"),
    ):
        yield seed("wrong type", name, value)
    for name, old, new in (
        ("an infinite rate", "head_lr: 0.003", "head_lr: .inf"),
        ("a rate that is no number", "head_lr: 0.003", "head_lr: .nan"),
        ("a share over 1", "min_decodable_share: 0.9", "min_decodable_share: 2"),
        ("ratios over 1", "train: 0.6", "train: 0.9"),
        ("no letter for a folder", "    landmarks: null", "    landmarks: ''"),
        ("a word for a list", "progressive_sizes: []", "progressive_sizes: none"),
        ("false for a number in a list", "progressive_sizes: []", "progressive_sizes: [false]"),
    ):
        yield Given("wrong type", name, whole.replace(old, new, 1).encode())
    yield Given("unknown key", "on top", (whole + "epochs: 3\n").encode())
    yield Given("unknown key", "in a block", whole.replace("  shard_mb", "  shards_mb", 1).encode())
    yield Given("unknown key", "a thousand", (whole + "".join(f"k{n}: 1\n" for n in range(1000))).encode())
    yield Given("unknown key", "of 50,000 letters", (whole + "x" * 50_000 + ": 1\n").encode())
    yield Given("unknown key", "that acts on a terminal", (whole + '"\\e[2J": 1\n').encode())
    yield Given("unknown key", "nothing", (whole + "? \n: 3\n").encode())
    yield Given("unknown key", "a list", (whole + "? [1, 2]\n: 3\n").encode())
    yield Given("missing key", "seed", whole.replace("seed: 1\n", "", 1).encode())
    yield Given("same key twice", "on top", (whole + "seed: 2\n").encode())
    yield Given(
        "same key twice", "in a block", whole.replace("  shard_mb: 64.0", "  shard_mb: 1\n  shard_mb: 2", 1).encode()
    )
    for name, tag in (
        ("python/object/apply", "!!python/object/apply:os.system ['touch ../../evil']"),
        ("python/name", "!!python/name:os.system"),
        ("unknown", "!foo 1"),
        ("int of a word", "!!int abc"),
        ("int of nothing", '!!int ""'),
        ("float of a word", "!!float x"),
        ("binary of nonsense", "!!binary '%%%'"),
        ("set", "!!set {a}"),
        ("pairs of a number", "!!pairs 3"),
        ("timestamp of a word", "!!timestamp x"),
    ):
        yield seed("tag", name, tag)
    yield seed("anchor", "that is none", "*nobody")
    yield Given("anchor", "within itself", f"a: &a [*a]\n{whole}".encode())
    yield Given("anchor", "of the whole file", f"&a\n{whole}a: *a\n".encode())
    yield Given("anchor", "merged number", f"<<: 3\n{whole}".encode())
    levels = [f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(12)]
    yield Given("bomb", "a billion laughs", (whole + "a: &a [lol, lol, lol]\n" + "".join(levels)).encode())
    yield Given("bomb", "5,000 lists in one another", b"[" * 5000)
    yield Given("bomb", "400 mappings in one another", "\n".join(" " * n + "a:" for n in range(400)).encode())
    yield Given("bomb", "a file of 1 MB", (whole + "# " + "x" * 1_000_000 + "\n").encode())
    for name, encoding in (("UTF-16", "utf-16"), ("UTF-32", "utf-32")):
        yield Given("encoding", name, whole.encode(encoding))
    yield Given("encoding", "Latin-1", whole.encode() + b"# caf\xe9\n")
    yield Given("encoding", "every byte", bytes(range(256)))
    yield Given("encoding", "NUL", whole.encode() + b"\0")
    yield seed("encoding", "half a character", '"\\ud800"')
    yield Given("encoding", "byte order mark", b"\xef\xbb\xbf" + whole.encode())
    for name, text in (("empty", ""), ("a number", "3"), ("a list", "- 1"), ("two documents", f"{whole}---\n{whole}")):
        yield Given("no params", name, text.encode())
    for name, text in (("version 9", "%YAML 9.9\n---\n"), ("a word", "%YAML x\n---\n"), ("a tab", "\tseed: 1\n")):
        yield Given("no params", name, (text + whole).encode())
    yield Given("no params", "cut off", whole[:-40].encode() + b"\n  x: [")
