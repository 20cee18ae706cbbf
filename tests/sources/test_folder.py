"""A folder per landmark, with the oddities that people's folders have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cairn.manifest import image_id_of, write_images
from cairn.params import FolderParams
from cairn.shards import ShardReader
from cairn.sources.base import Fetched, SourceError
from cairn.sources.folder import FolderSource


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(f"photo {name}".encode())


def fetch(landmarks: Path | None, out: Path, distractors: Path | None = None, shard_mb: float = 1) -> Fetched:
    source = FolderSource(FolderParams(landmarks=landmarks, distractors=distractors), shard_mb)
    return source.fetch(out, out / "keep")


def rows_of(fetched: Fetched) -> dict[str, int | None]:
    return {row["source_name"]: row["landmark_id"] for row in fetched.images.to_pylist()}


def test_landmarks_and_distractors(tmp_path: Path) -> None:
    put(tmp_path / "l", "Tour_Eiffel/a.jpg", "Tour_Eiffel/2019/deep er/b.JPG", "Arc de Triomphe/c.webp", "Ägypten.1/d")
    put(tmp_path / "n", "cat.png", "more/dog.jpg")
    fetched = fetch(tmp_path / "l", tmp_path / "out", tmp_path / "n")
    assert rows_of(fetched) == {
        "landmarks/Arc de Triomphe/c.webp": 0,
        "landmarks/Tour_Eiffel/2019/deep er/b.JPG": 1,
        "landmarks/Tour_Eiffel/a.jpg": 1,
        "landmarks/Ägypten.1/d": 2,
        "distractors/cat.png": None,
        "distractors/more/dog.jpg": None,
    }
    assert fetched.landmarks.to_pylist() == [
        {"landmark_id": 0, "name": "Arc de Triomphe", "category": None},
        {"landmark_id": 1, "name": "Tour Eiffel", "category": None},
        {"landmark_id": 2, "name": "Ägypten.1", "category": None},
    ]
    with ShardReader(tmp_path / "out") as reader:
        for row in fetched.images.to_pylist():
            kind, _, name = row["source_name"].partition("/")
            assert row["image_id"] == image_id_of(row["source_name"])
            content = reader.read(row["shard"], row["offset"], row["size"])
            assert content == (tmp_path / kind[0].replace("d", "n") / name).read_bytes()
    write_images(tmp_path / "out", fetched.images)


def test_what_is_no_photo_is_counted_and_left_out(tmp_path: Path) -> None:
    root = tmp_path / "l"
    put(
        root,
        "A/a.jpg",
        "A/notes.TXT",
        "A/Thumbs.db",
        "A/.DS_Store",
        "A/._a.jpg",
        "A/x.json",
        "A/live.MOV",
        ".git/config",
        "top.jpg",
    )
    put(root, "__MACOSX/A/._a.jpg", "Empty/readme.md", "readme.md")
    (root / "A" / "empty.jpg").touch()
    os.mkfifo(root / "A" / "pipe.jpg")
    fetched = fetch(root, tmp_path / "out")
    assert rows_of(fetched) == {"landmarks/A/a.jpg": 0, "landmarks/A/empty.jpg": 0}
    assert sorted(fetched.images["size"].to_pylist()) == [0, len(b"photo A/a.jpg")]
    assert fetched.facts == {
        "photos": 2,
        "landmark_photos": 2,
        "distractors": 0,
        "landmarks": 1,
        "empty_landmark_folders": 1,
        "outside_any_landmark": 1,
        "not_photos": 8,
        "hidden": 3,
        "too_large": 0,
        "links_not_followed": 0,
    }


def test_links(tmp_path: Path) -> None:
    put(tmp_path / "l", "A/a.jpg", "B/b.jpg")
    put(tmp_path / "elsewhere", "c.jpg")
    root = tmp_path / "l"
    (root / "B" / "inside.jpg").symlink_to(root / "A" / "a.jpg")
    (root / "B" / "outside.jpg").symlink_to(tmp_path / "elsewhere" / "c.jpg")
    (root / "B" / "broken.jpg").symlink_to(root / "none.jpg")
    (root / "B" / "loop").symlink_to(root)
    (root / "B" / "itself.jpg").symlink_to("itself.jpg")
    (root / "B" / "long.jpg").symlink_to("x" * 300)
    (root / "C").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "link").symlink_to(root)
    fetched = fetch(tmp_path / "link", tmp_path / "out")
    assert rows_of(fetched) == {"landmarks/A/a.jpg": 0, "landmarks/B/b.jpg": 1, "landmarks/B/inside.jpg": 1}
    assert fetched.facts["links_not_followed"] == 6


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path / "l") + b"/Caf\xe9_noir"
    Path(os.fsdecode(folder)).mkdir(parents=True)
    Path(os.fsdecode(folder + b"/\xff.jpg")).write_bytes(b"x")
    fetched = fetch(tmp_path / "l", tmp_path / "out")
    assert rows_of(fetched) == {r"landmarks/Caf\xe9_noir/\xff.jpg": 0}
    assert fetched.landmarks["name"].to_pylist() == [r"Caf\xe9 noir"]


def test_order_comes_from_names_not_from_the_file_system(tmp_path: Path) -> None:
    names = [f"{folder}/{number}.jpg" for folder in ("b", "a", "B", "a b", "a/b") for number in range(4)]
    put(tmp_path / "one", *names)
    put(tmp_path / "two", *reversed(names))
    first, second = fetch(tmp_path / "one", tmp_path / "out1"), fetch(tmp_path / "two", tmp_path / "out2")
    assert first.images.equals(second.images)
    assert (tmp_path / "out1" / "shard_00000.tar").read_bytes() == (tmp_path / "out2" / "shard_00000.tar").read_bytes()


def test_a_new_landmark_folder_does_not_rename_photos(tmp_path: Path) -> None:
    put(tmp_path / "l", "B/b.jpg")
    before = fetch(tmp_path / "l", tmp_path / "out")
    put(tmp_path / "l", "A/a.jpg")
    after = fetch(tmp_path / "l", tmp_path / "out")
    assert set(before.images["image_id"].to_pylist()) < set(after.images["image_id"].to_pylist())


def test_shards_are_closed_when_full(tmp_path: Path) -> None:
    put(tmp_path / "l", *(f"A/{number}.jpg" for number in range(5)))
    fetched = fetch(tmp_path / "l", tmp_path / "out", shard_mb=0.002)
    assert sorted(set(fetched.images["shard"].to_pylist())) == [f"shard_0000{number}.tar" for number in range(3)]


def test_no_usable_landmarks(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(SourceError, match=r"fetch\.folder\.landmarks is null; .*Eiffel"):
        fetch(None, out)
    with pytest.raises(SourceError, match=r"fetch\.folder\.landmarks = .*none: no such folder"):
        fetch(tmp_path / "none", out)
    put(tmp_path / "top", "a.jpg", "b.jpg")
    with pytest.raises(SourceError, match=r"fetch\.folder\.landmarks = .*top: holds photos, but no landmark folders"):
        fetch(tmp_path / "top", out)
    with pytest.raises(SourceError, match=r"a\.jpg: a file, not a folder"):
        fetch(tmp_path / "top" / "a.jpg", out)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(SourceError, match=r"nothing: holds no landmark folders"):
        fetch(tmp_path / "nothing", out)
    put(tmp_path / "texts", "A/notes.txt", "a.jpg")
    with pytest.raises(SourceError, match=r"no photo in any of its 1 folders \(1 beside them\)"):
        fetch(tmp_path / "texts", out)


def test_an_error_tells_what_was_left_out(tmp_path: Path) -> None:
    root = tmp_path / "l"
    put(tmp_path / "elsewhere", "a.jpg")
    root.mkdir()
    (root / "Eiffel").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match=r"holds no landmark folders \(1 links not followed\)"):
        fetch(root, tmp_path / "out")
    put(root, "A/notes.txt", "A/a.mov")
    (root / "A" / "b.jpg").symlink_to(tmp_path / "elsewhere" / "a.jpg")
    with pytest.raises(SourceError, match=r"\(0 beside them\) \(2 links not followed, 2 not photos\)"):
        fetch(root, tmp_path / "out")


@pytest.mark.parametrize("names", [("Eiffel Tower", "Eiffel_Tower"), ("Caf\u00e9", "Cafe\u0301")])
def test_two_folders_cannot_stand_for_landmarks_of_one_name(tmp_path: Path, names: tuple[str, str]) -> None:
    put(tmp_path / "l", *(f"{name}/a.jpg" for name in names), "Other/b.jpg")
    with pytest.raises(SourceError, match="both stand for a landmark called") as caught:
        fetch(tmp_path / "l", tmp_path / "out")
    assert all(repr(name) in str(caught.value) for name in names)


def test_distractors_must_be_a_folder_apart(tmp_path: Path) -> None:
    put(tmp_path / "l", "A/a.jpg", "none/n.jpg")
    with pytest.raises(
        SourceError, match=r"fetch\.folder\.distractors = .*no such folder.*null leaves distractors out"
    ):
        fetch(tmp_path / "l", tmp_path / "out", tmp_path / "missing")
    for distractors in (tmp_path / "l" / "none", tmp_path):
        with pytest.raises(SourceError, match=r"fetch\.folder\.distractors = .*lie in one another"):
            fetch(tmp_path / "l", tmp_path / "out", distractors)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_photo_that_cannot_be_read(tmp_path: Path) -> None:
    put(tmp_path / "l", "A/a.jpg")
    (tmp_path / "l" / "A" / "a.jpg").chmod(0)
    with pytest.raises(SourceError, match=r"a\.jpg: cannot be read"):
        fetch(tmp_path / "l", tmp_path / "out")
