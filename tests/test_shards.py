"""Tar shards: the same bytes every time, and what is read by offset is what was written."""

from __future__ import annotations

import os
import tarfile
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hostile.tars import Writer
from hypothesis import given
from hypothesis import strategies as st

import cairn.shards
from cairn.shards import ShardError, ShardReader, index_shard, write_shards

CONTENTS = st.lists(st.binary(max_size=1500), min_size=1, max_size=12)


@given(contents=CONTENTS, shard_bytes=st.integers(1, 6000))
def test_every_file_is_read_back_from_where_it_was_said_to_lie(
    tmp_path_factory: pytest.TempPathFactory, contents: list[bytes], shard_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    files = [(f"{number:016x}", content) for number, content in enumerate(contents)]
    members = list(write_shards(files, folder, shard_bytes))
    with ShardReader(folder) as reader:
        assert [reader.read(m.shard, m.offset, m.size) for m in members] == contents
    indexed = [m for path in sorted(folder.iterdir()) for m in index_shard(path, folder)]
    assert indexed == members


def test_python_tarfile_reads_the_same_and_no_time_or_owner_is_kept(tmp_path: Path) -> None:
    list(write_shards([("a", b"one"), ("b", b"two")], tmp_path, 10**6))
    with tarfile.open(tmp_path / "shard_00000.tar") as tar:
        assert [(i.name, i.mtime, i.uid, i.uname) for i in tar] == [("a", 0, 0, ""), ("b", 0, 0, "")]
        content = tar.extractfile("b")
        assert content is not None
        assert content.read() == b"two"


def test_a_shard_is_closed_once_it_is_full(tmp_path: Path) -> None:
    members = list(write_shards([(str(i), bytes(1000)) for i in range(4)], tmp_path, 3000))
    assert [m.shard for m in members] == ["shard_00000.tar"] * 2 + ["shard_00001.tar"] * 2


def test_a_cut_tar_is_refused_by_name(tmp_path: Path) -> None:
    list(write_shards([("a", bytes(5000))], tmp_path, 10**6))
    path = tmp_path / "shard_00000.tar"
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ShardError, match=r"shard_00000\.tar"):
        index_shard(path, tmp_path)


def test_links_in_a_tar_are_passed_over(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        link = tarfile.TarInfo("evil")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert index_shard(tmp_path / "x.tar", tmp_path) == []


def attributes(count: int) -> dict[str, str]:
    """Of 13 bytes each."""
    return {f"key{number:05}": "" for number in range(count)}


def test_what_tarfile_keeps_of_each_file_does_not_pile_up(tmp_path: Path) -> None:
    writer, names = Writer(np.random.default_rng(0)), [f"{number}.jpg" for number in range(60)]
    for name in names:
        writer.pax(attributes(5000)).add(name)
    (tmp_path / "x.tar").write_bytes(writer.end())
    tracemalloc.start()
    members = index_shard(tmp_path / "x.tar", tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [member.name for member in members] == names
    assert peak < 5_000_000  # of one file it is 2 MB


@pytest.mark.parametrize(("count", "headers", "taken"), [(76, 1, True), (77, 1, False), (38, 2, True), (38, 3, False)])
def test_attributes_for_all_files_are_few(tmp_path: Path, count: int, headers: int, taken: bool) -> None:
    writer = Writer(np.random.default_rng(0))
    for _ in range(headers):
        writer.pax(attributes(count), tarfile.XGLTYPE).add("a.jpg")
    (tmp_path / "x.tar").write_bytes(writer.end())
    if taken:
        assert [member.name for member in index_shard(tmp_path / "x.tar", tmp_path)] == ["a.jpg"] * headers
    else:
        with pytest.raises(ShardError, match=rf"come to {13 * count * headers} bytes, over the limit of 1000; pack it"):
            index_shard(tmp_path / "x.tar", tmp_path)


def test_attributes_for_all_files_behind_the_claimed_end_are_counted(tmp_path: Path) -> None:
    writer = Writer(np.random.default_rng(0))
    for _ in range(3):  # of 400 bytes, one of which is claimed
        writer.add("pax", b"400 a=" + b"x" * 393 + b"\n", size=1, type=tarfile.XGLTYPE)
    (tmp_path / "x.tar").write_bytes(writer.add("a.jpg").end())
    with pytest.raises(ShardError, match="come to 1200 bytes"):
        index_shard(tmp_path / "x.tar", tmp_path)


def test_attributes_whose_names_reach_into_the_next_ones(tmp_path: Path) -> None:
    for content, taken in ((b"6 ab=\n7 abc=\n", True), (b"2 2 2 ab=", False), (b"4 ab=\n", False)):
        writer = Writer(np.random.default_rng(0)).add("pax", content, type=tarfile.XHDTYPE).add("a.jpg")
        named = writer.add("n", b"1 ab=.jpg\0", type=tarfile.GNUTYPE_LONGNAME).add("b.jpg")
        (tmp_path / "x.tar").write_bytes(named.end())
        if taken:
            assert [m.name for m in index_shard(tmp_path / "x.tar", tmp_path)] == ["a.jpg", "1 ab=.jpg"]
        else:
            with pytest.raises(ShardError, match="attributes that are none"):
                index_shard(tmp_path / "x.tar", tmp_path)


def test_a_reader_refuses_what_lies_outside_or_beyond(tmp_path: Path) -> None:
    list(write_shards([("a", b"abc")], tmp_path / "in", 10**6))
    (tmp_path / "secret").write_bytes(b"secret")
    with ShardReader(tmp_path / "in") as reader:
        with pytest.raises(ShardError, match="outside"):
            reader.read("../secret", 0, 3)
        with pytest.raises(ShardError, match="wanted"):
            reader.read("shard_00000.tar", 10**6, 3)
        with pytest.raises(ShardError, match="dvc"):
            reader.read("shard_00009.tar", 0, 3)
        for offset, size in ((-1, 3), (0, -1), (0, 2**62), (2**70, 1)):
            with pytest.raises(ShardError, match=f"{size} bytes wanted at {offset}, of a file of 10240"):
                reader.read("shard_00000.tar", offset, size)
        os.mkfifo(tmp_path / "in" / "pipe")
        for shard, said in (("pipe", "not a file"), ("", "not a file"), ("a\0", "outside"), ("x" * 300, "too long")):
            with pytest.raises(ShardError, match=said):
                reader.read(shard, 0, 1)


def open_in(folder: Path) -> int:
    """How many files below a folder this process holds open."""
    links = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return sum(link.is_relative_to(folder) for link in links)


def test_many_shards_are_read_by_many_threads_with_few_files_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cairn.shards, "MOST_OPEN", 3)
    members = list(write_shards([(f"{n:x}", bytes([n]) * 600) for n in range(40)], tmp_path, 1))
    assert len({member.shard for member in members}) == 40
    asked = [members[at] for at in np.random.default_rng(1).integers(40, size=4000)]
    with ShardReader(tmp_path) as reader, ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda m: reader.read(m.shard, m.offset, m.size), asked))
        assert read == [bytes([int(m.name, 16)]) * 600 for m in asked]
        assert 0 < open_in(tmp_path) <= 3
    assert open_in(tmp_path) == 0
