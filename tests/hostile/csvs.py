"""Label files that are no tables, or tables of nonsense: what stands in for one file of a small GLDv2."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sources.gldv2_layout import Layout

TRAIN, CLEAN, INDEX = "metadata/train.csv", "metadata/train_clean.csv", "metadata/index_image_to_landmark.csv"
LISTED, TEST = "metadata/index.csv", "ground_truth/recognition_solution_v2.1.csv"
NAMES, ATTRIBUTION = "metadata/train_label_to_category.csv", "metadata/train_attribution.csv"


class Table(NamedTuple):
    """`content` takes the place of the file `path`, which is read for the split and labels in `params`."""

    kind: str
    name: str
    path: str
    content: bytes
    params: dict[str, str]


def hostile_csvs(layout: Layout) -> Iterator[Table]:
    """All of them, about the photos of the layout."""
    labels = [(key, value) for key, value in layout.labels["train"].items() if key != "f" * 16]
    yield from _train(labels)
    yield from _lists(layout, [key for key, _ in labels])
    yield from _names(labels[0][0])


def _train(labels: list[tuple[str, int | None]]) -> Iterator[Table]:
    of_train = {"split": "train", "labels": "full"}
    rows = [f"{key},{value}" for key, value in labels]
    head, body = "id,landmark_id\n", "\n".join(rows) + "\n"
    first = labels[0][0]
    plain = head + body

    def train(kind: str, name: str, content: str | bytes) -> Table:
        return Table(kind, name, TRAIN, content if isinstance(content, bytes) else content.encode(), of_train)

    yield train("encoding", "UTF-16", plain.encode("utf-16"))
    yield train("encoding", "UTF-8 with a byte order mark", b"\xef\xbb\xbf" + plain.encode())
    yield train("encoding", "Latin-1 id", head.encode() + b"caf\xe9,1\n" + body.encode())
    yield train("encoding", "DOS line ends", plain.replace("\n", "\r\n"))
    yield train("encoding", "Mac line ends", plain.replace("\n", "\r"))
    yield train("columns", "none", "")
    yield train("columns", "head alone", head)
    yield train("columns", "no head", body)
    yield train("columns", "id missing", plain.replace("id,landmark_id", "image,landmark_id"))
    yield train("columns", "landmark_id missing", plain.replace("id,landmark_id", "id,landmark"))
    yield train("columns", "id twice", "id,id,landmark_id\n" + "".join(f"{k},{k},{v}\n" for k, v in labels))
    yield train("columns", "more than the head has", head + "".join(f"{row},x\n" for row in rows))
    yield train("columns", "fewer in one row", head + f"{first}\n" + body)
    yield train("columns", "semicolons", plain.replace(",", ";"))
    yield train("columns", "a thousand more", _wide(labels))
    yield train("no table", "a web page", "<html><body>503</body></html>")
    yield train("no table", "noise", bytes(range(256)) * 20)
    yield train("no table", "zeros", bytes(5000))
    yield train("NUL", "in an id", head + f"{first[:8]}\0{first[9:]},1\n" + body)
    yield train("NUL", "as an id", head + "\0,1\n" + body)
    yield train("NUL", "in a number", head + f"{first},1\0\n" + body)
    yield train("quotes", "never closed", head + '"' + body)
    yield train("quotes", "around a newline", head + f'"{first}\n",1\n' + body)
    yield train("quotes", "in the middle", head + f'{first[:4]}"{first[5:]},1\n' + body)
    yield train("quotes", "of 20 MB, never closed", head + '"' + "x" * 20_000_000)
    yield train("ids", "a formula", head + "=cmd|' /C calc'!A0,1\n" + body)
    yield train("ids", "a path", head + "../../etc/passwd,1\n" + body)
    yield train("ids", "too long", head + f"{first}0,1\n" + body)
    yield train("ids", "a megabyte", head + f"{'a' * 1_000_000},1\n" + body)
    yield train("ids", "upper case", head + f"{first.upper()}x,1\n" + body)
    yield train("ids", "none", head + ",1\n" + body)
    yield train("ids", "the same a thousand times", head + f"{rows[0]}\n" * 1000 + body)
    yield train("ids", "the same of two landmarks", head + f"{first},27\n{first},7\n" + body)
    for what, value in (
        ("a word", "x"),
        ("a fraction", "1.5"),
        ("infinite", "inf"),
        ("a formula", "=1+1"),
        ("a megabyte", "x" * 10**6),
    ):
        yield train("landmarks", what, head + f"{first},{value}\n" + body)
    for what, value in (
        ("below 0", "-1"),
        ("lowest", str(-(2**63))),
        ("highest", str(2**63 - 1)),
        ("over 64 bits", "9" * 20),
    ):
        yield train("landmarks", what, head + f"{first},{value}\n" + body)
    yield train("landmarks", "none for one photo", head + f"{first},\n" + "\n".join(rows[1:]) + "\n")
    yield train("landmarks", "none for any", head + "".join(f"{key},\n" for key, _ in labels))
    yield train("landmarks", "that nothing names", head + "".join(f"{key},999\n" for key, _ in labels))


def _lists(layout: Layout, ids_of_train: list[str]) -> Iterator[Table]:
    of_clean = {"split": "train", "labels": "clean"}
    ids = " ".join(ids_of_train)
    for name, text in (
        ("spaces and tabs between", f"7,  {ids.replace(' ', chr(9) + ' ')} \n"),
        ("no ids", "7,\n"),
        ("no landmark", f",{ids}\n"),
        ("ids with commas", f"7,{ids.replace(' ', ',')}\n"),
        ("below 0", f"-5,{ids}\n"),
        ("one id under two landmarks", f"7,{ids}\n27,{ids}\n"),
    ):
        yield Table("clean list", name, CLEAN, f"landmark_id,images\n{text}".encode(), of_clean)

    of_index = {"split": "index", "labels": "full"}
    listed = list(layout.labels["index"])
    yield Table("index lists", "no landmark", INDEX, b"id,landmark_id\n" + f"{listed[0]},\n".encode(), of_index)
    yield Table("index lists", "below 0", INDEX, f"id,landmark_id\n{listed[0]},-1\n".encode(), of_index)
    yield Table("index lists", "of nothing", LISTED, b"id\n", of_index)
    yield Table("index lists", "of formulas", LISTED, b'id\n"=HYPERLINK(""x"")"\n', of_index)

    of_test = {"split": "test", "labels": "full"}
    asked = list(layout.photos["test"][0])
    for name, text in (
        ("a landmark of 20 digits", f"{asked[0]},{'9' * 20},Public"),
        ("a landmark below 0", f"{asked[0]},-7,Public"),
        ("a formula", f"{asked[0]},=1+1,Public"),
        ("all distractors", "\n".join(f"{key},,Public" for key in asked)),
        ("all ignored", "\n".join(f"{key},7,Ignored" for key in asked)),
        ("an id that is none", "nobody,7,Public"),
    ):
        yield Table("distractors and truth", name, TEST, f"id,landmarks,Usage\n{text}\n".encode(), of_test)


def _names(first: str) -> Iterator[Table]:
    of_train, wiki = {"split": "train", "labels": "full"}, "http://commons.wikimedia.org/wiki/Category:"
    for name, text in (
        ("a formula", "7,=cmd|'/C calc'!A0\n"),
        ("that acts on a terminal", f"7,{wiki}%1B%5B2J%0Aowned%00\n"),
        ("not UTF-8 when unquoted", f"7,{wiki}%ff%fe\n"),
        ("a script", f"7,{wiki}<script>alert(1)</script>\n"),
        ("a megabyte", f"7,{wiki}{'x' * 1_000_000}\n"),
        ("twice", f"7,{wiki}A\n7,{wiki}B\n"),
        ("of a word", f"seven,{wiki}A\n"),
        ("empty", "7,\n"),
    ):
        yield Table("landmark names", name, NAMES, f"landmark_id,category\n{text}".encode(), of_train)
    for name, text in (
        ("a formula", f"{first},u,=cmd|'/C calc'!A0,l,t\n"),
        ("twice", f"{first},u,A,l,t\n{first},u,B,l,t\n"),
        ("of nobody", "nobody,u,A,l,t\n"),
        ("Latin-1", f"{first},u,Zo\udceb,l,t\n"),
        ("columns missing", "x\n"),
    ):
        content = f"id,url,author,license,title\n{text}".encode("utf-8", "surrogateescape")
        yield Table("attribution", name, ATTRIBUTION, content, of_train)


def _wide(labels: list[tuple[str, int | None]]) -> str:
    names = ",".join(f"c{number}" for number in range(1000))
    return f"id,landmark_id,{names}\n" + "".join(f"{key},{value}{',x' * 1000}\n" for key, value in labels)
