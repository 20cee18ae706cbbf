"""The gallery's commands: what they accept, refuse and say, and what is left when one is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from gallery.made_gallery import NAME, Place, query
from hypothesis import given, settings
from hypothesis import strategies as st
from serving.tiny_repository import NAMES

from cairn.gallery.add import add_photos
from cairn.gallery.changes import (
    FIRST_ID,
    Addition,
    LandmarkRemoved,
    Photo,
    PhotosRemoved,
    open_gallery,
    write_change,
)
from cairn.gallery.locking import GalleryError, locked
from cairn.manifest import read_landmarks, write_landmarks
from cairn.retrieval.entries import ENTRIES_FILE, Entries
from cairn.shards import ShardReader


def add(number: int, landmark: str, *ids: str) -> Addition:
    photos = tuple(
        Photo(image_id=i, source_name=i, author=None, licence=None, shard="shard_00000.tar", offset=512, size=1)
        for i in ids
    )
    return Addition(landmark=landmark, landmark_id=FIRST_ID + number, photos=photos)


STEPS = st.one_of(
    st.tuples(st.just("add"), st.sampled_from("AB"), st.frozensets(st.sampled_from("uvwxyz"), min_size=1)),
    st.tuples(st.just("photos"), st.just(""), st.frozensets(st.sampled_from("uvwxyz"), min_size=1)),
    st.tuples(st.just("landmark"), st.sampled_from("AB"), st.just(frozenset())),
)


@settings(max_examples=60)
@given(st.lists(STEPS, max_size=8))
def test_changes_come_to_what_a_plain_list_of_photos_comes_to(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, frozenset[str]]]
) -> None:
    folder, photos, gone = tmp_path_factory.mktemp("gallery"), dict[str, str](), set[str]()
    for number, (kind, landmark, ids) in enumerate(steps, 1):
        (folder / f"{number:05d}").mkdir()
        if kind == "add":
            change: Addition | PhotosRemoved | LandmarkRemoved = add("AB".index(landmark), landmark, *sorted(ids))
            photos |= dict.fromkeys(ids, landmark)
        elif kind == "photos":
            change = PhotosRemoved(image_ids=tuple(sorted(ids)))
            gone |= ids - set(photos)
            photos = {i: name for i, name in photos.items() if i not in ids}
        else:
            change = LandmarkRemoved(landmark=landmark)
            photos = {i: name for i, name in photos.items() if name != landmark}
        write_change(folder / f"{number:05d}", change)
    gallery = open_gallery(folder)
    assert {i: each.landmark for i, each in gallery.added.items()} == photos
    assert gallery.removed_photos == gone
    assert all(gallery.own_id(name) == FIRST_ID + "AB".index(name) for name in gallery.landmark_ids)
    assert gallery.next_change == folder / f"{len(steps) + 1:05d}"


def test_broken_photos_are_refused_and_the_others_added(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    (place.photos / "broken.png").write_bytes((place.photos / "0.png").read_bytes()[:200])
    (place.photos / "empty.jpg").write_bytes(b"")
    with (place.photos / "large.jpg").open("wb") as file:
        file.truncate(64_100_000)
    (place.photos / "notes.txt").write_text("not looked at")
    (place.photos / "twin.png").write_bytes((place.photos / "1.png").read_bytes())
    assert place.run("add", NAME, place.photos, place.photos / "none.jpg") == 1
    told = capsys.readouterr()
    assert f"{place.photos / 'broken.png'}: refused: broken image" in told.err
    assert f"{place.photos / 'empty.jpg'}: refused: empty file" in told.err
    assert f"{place.photos / 'large.jpg'}: refused: 64.1 MB, over the limit of 64 MB" in told.err
    assert f"{place.photos / 'none.jpg'}: refused: No such file or directory" in told.err
    assert "notes" not in told.err + told.out
    assert f"{place.photos / 'twin.png'}: the same photo as {place.photos / '1.png'}" in told.out
    assert f"6 photo(s) of {NAME}, a new landmark, are in {place.gallery}" in told.out
    assert len(open_gallery(place.gallery).added) == 6


def test_a_photo_that_changes_while_it_is_added(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    changing = place.photos / "3.png"

    def late(*given: object) -> None:
        changing.write_bytes(query(3))
        add_photos(*given)  # type: ignore[arg-type]

    monkeypatch.setattr("cairn.gallery.add.add_photos", late)
    assert place.run("add", NAME, place.photos) == 2
    assert f"{changing}: changed while it was added; nothing was added" in capsys.readouterr().err
    assert open_gallery(place.gallery).changes == ()
    monkeypatch.undo()
    assert place.run("add", NAME, place.photos) == 0
    assert len(open_gallery(place.gallery).added) == 6


def test_photos_that_are_there_are_passed_over(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.run("add", NAME, place.photos / "0.png")
    assert place.run("add", "Another", place.photos / "0.png") == 0
    assert f"0.png: there already, as photo {next(iter(open_gallery(place.gallery).added))} of {NAME}" in (
        capsys.readouterr().out
    )
    assert open_gallery(place.gallery).changes == (1,)


def test_a_photo_of_the_index_is_not_added_again_unless_it_was_removed(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = Entries.open(place.version(1) / ENTRIES_FILE).at(4)
    with ShardReader(place.tiny.photos) as reader:
        (place.photos / "again.png").write_bytes(reader.read(entry.shard, entry.offset, entry.size))
    given = ("add", NAME, place.photos / "again.png", "--index-photos", place.tiny.photos)
    assert place.run(*given) == 0
    assert f"there already, as photo {entry.image_id} of landmark {entry.landmark_id}" in capsys.readouterr().out
    assert open_gallery(place.gallery).changes == ()
    place.run("remove", "--photo", entry.image_id)
    assert place.run(*given) == 0
    got = place.answers(place.publish(), [(place.photos / "again.png").read_bytes()])
    assert got["neighbour_landmarks"][0, 0].decode() == NAME
    assert entry.image_id.encode() not in got["neighbours"][0]


def test_a_name_that_is_spelt_nearly_alike_is_said(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.run("add", "tour Eifel", place.photos / "0.png")
    assert "tour Eifel, a new landmark" in (told := capsys.readouterr().out)
    assert f"names like it: {NAMES[3]}" in told
    place.run("add", "tour Eifel", place.photos / "1.png")
    assert "tour Eifel, known" in capsys.readouterr().out


def test_photos_of_a_name_that_two_landmarks_have_are_not_added(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing can be published that has such a change, so none is made."""
    table = read_landmarks(place.version(1))
    write_landmarks(place.version(1), table.set_column(1, "name", [[NAMES[3], f" {NAMES[3]}", NAMES[8]]]))
    assert place.run("add", NAMES[3], place.photos) == 2
    assert f"'{NAMES[3]}': landmarks [3, 5] are all called so; give them names of" in capsys.readouterr().err
    assert open_gallery(place.gallery).changes == ()
    assert place.run("add", NAME, place.photos) == 0
    assert place.publish() == 2


def test_what_is_not_there_cannot_be_removed(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    first = place.answers(1, [query(3)])["neighbours"][0, 0].decode()
    assert place.run("remove", "--photo", first, "0" * 16) == 2
    assert f"photo {'0' * 16} is neither in the index nor in {place.gallery}" in capsys.readouterr().err
    assert place.run("remove", "--landmark", NAME) == 2
    assert "no landmark of the index or of" in capsys.readouterr().err
    assert place.run("remove", "--photo", first) == 0
    assert place.run("remove", "--photo", first) == 2  # once is enough
    assert place.run("remove", "--landmark", NAMES[3]) == 0
    assert place.run("remove", "--landmark", NAMES[3]) == 2
    assert open_gallery(place.gallery).changes == (1, 2)


def test_the_gallery_is_shown(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.run("gallery") == 0
    assert "empty; `cairn add NAME PHOTO...` begins it" in capsys.readouterr().out
    place.run("add", NAME, place.photos)
    place.run("remove", "--landmark", NAMES[8])
    place.publish()
    place.publish("--back")
    capsys.readouterr()
    assert place.run("gallery", "--photos") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        f"    1  6 photo(s) of {NAME} added",
        f"    2  {NAMES[8]} removed",
        f"    6 photo(s) of {NAME}",
    ]
    assert sorted(line.split()[1] for line in lines[3:9]) == [f"{n}.png" for n in range(6)]
    assert lines[9:] == [
        "version 1: what the pipeline exported",
        "version 2: 6 photo(s) added, 6 removed, up to change 2",
        "version 3: 0 photo(s) added, 0 removed, up to change 0, as version 1 was",
    ]


def test_a_broken_change_is_named(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.run("add", NAME, place.photos)
    path = place.gallery / "00001" / "change.json"
    path.write_text(path.read_text()[:80])
    assert place.run("gallery") == 2
    assert f"{path}: not a change that `cairn add` or `cairn remove` wrote" in capsys.readouterr().err


def test_names_that_are_none(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("", "  ", "a\x00b"):
        assert place.run("add", name, place.photos) == 2
        assert "is no name of a landmark" in capsys.readouterr().err


def test_a_killed_add_leaves_nothing_and_holds_no_lock(place: Place) -> None:
    """The photos lie in their shard by then, the change is not named yet."""
    place.run_killed("cairn.gallery.add.write_change", "add", NAME, place.photos)
    assert (place.gallery / ".00001.aside" / "shard_00000.tar").exists()
    assert open_gallery(place.gallery).changes == ()
    assert place.run("add", NAME, place.photos) == 0
    assert len(open_gallery(place.gallery).added) == 6
    assert not (place.gallery / ".00001.aside").exists()


def test_the_lock_names_its_holder(tmp_path: Path) -> None:
    held = (
        "import sys, pathlib\nfrom cairn.gallery.locking import locked\n"
        "with locked(pathlib.Path(sys.argv[1])):\n print('held', flush=True)\n sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", held, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(GalleryError, match=rf"process {holder.pid}; wait until it has ended"), locked(tmp_path):
            pass
        os.kill(holder.pid, signal.SIGKILL)
    with locked(tmp_path):
        pass
