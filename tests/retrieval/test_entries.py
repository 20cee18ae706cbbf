"""Entries written, mapped and looked up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from retrieval.made_entries import entries_table

from cairn.manifest import IMAGES, as_image_id, as_number, image_id_of
from cairn.retrieval.entries import ENTRIES, Entries, EntriesError, Entry, entries_of, write_entries

IDS = np.random.default_rng(0).integers(-(2**63), 2**63, 300)
LANDMARKS = np.random.default_rng(1).integers(0, 9, 300)


def opened(path: Path, table: pa.Table) -> Entries:
    write_entries(path, table)
    return Entries.open(path)


def test_every_photo_is_found_by_its_id(tmp_path: Path) -> None:
    authors = [("Zoë", None)[n % 2] for n in range(300)]
    licences = [("CC0-1.0", "CC BY 4.0", None)[n % 3] for n in range(300)]
    entries = opened(tmp_path / "entries.arrow", entries_table(IDS, LANDMARKS, authors, licences))
    assert len(entries) == 300
    for n in (0, 1, 299):
        wanted = (int(LANDMARKS[n]), f"{n}.jpg", authors[n], licences[n], "shard_00000.tar", 512 + 1024 * n, 100 + n)
        assert entries.find(as_image_id(int(IDS[n]))) == Entry(as_image_id(int(IDS[n])), *wanted)
    assert np.array_equal(entries.landmark_ids[entries.rows(IDS)], LANDMARKS)
    assert entries.attributions(entries.rows(IDS[:6])) == [
        "Zoë, CC0-1.0",
        "CC BY 4.0",
        "Zoë",
        "CC0-1.0",
        "Zoë, CC BY 4.0",
        "",
    ]
    assert entries.landmarks().tolist() == list(range(9))


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    entries = opened(tmp_path / "entries.arrow", entries_table(IDS, LANDMARKS))
    for image_id in (image_id_of("another"), "", "no hexadecimal", "f" * 17, "-1"):
        assert entries.find(image_id) is None


def test_columns_are_mapped_not_copied(tmp_path: Path) -> None:
    before = pa.total_allocated_bytes()
    entries = opened(tmp_path / "entries.arrow", entries_table(IDS, LANDMARKS))
    assert pa.total_allocated_bytes() - before < IDS.nbytes
    assert not entries.image_ids.flags.owndata
    assert entries.table.equals(entries_table(IDS, LANDMARKS))


def test_equal_rows_give_the_same_bytes_whatever_they_were_taken_from(tmp_path: Path) -> None:
    authors = [f"author {n % 40}" for n in range(300)]
    whole = entries_table(IDS, LANDMARKS, authors)
    chosen = whole.filter(pa.array(np.arange(300) % 3 == 0))
    joined = pa.concat_tables([chosen.slice(0, 17), chosen.slice(17)])
    plain = pa.Table.from_pylist(chosen.to_pylist(), schema=ENTRIES)
    for name, table in (("a", chosen), ("b", joined), ("c", plain)):
        write_entries(tmp_path / name, table)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


def test_rows_of_the_manifest_become_entries() -> None:
    ids = sorted(image_id_of(str(n)) for n in range(50))
    rows = [(i, "a.tar", 512 * n, n + 1, n % 5, f"{n}.jpg", None, "CC0-1.0") for n, i in enumerate(ids)]
    images = pa.table(dict(zip(IMAGES.names, zip(*rows, strict=True), strict=True)), schema=IMAGES)
    numbers = entries_of(images)["image_id"].to_pylist()
    assert numbers == sorted(as_number(i) for i in ids)
    by_number = {row["image_id"]: row for row in entries_of(images).to_pylist()}
    assert by_number[as_number(ids[7])] == {
        "image_id": as_number(ids[7]),
        "landmark_id": 2,
        "source_name": "7.jpg",
        "author": None,
        "licence": "CC0-1.0",
        "shard": "a.tar",
        "offset": 512 * 7,
        "size": 8,
    }


def test_refusals(tmp_path: Path) -> None:
    path = tmp_path / "entries.arrow"
    with pytest.raises(EntriesError, match="no such file"):
        Entries.open(path)
    path.write_bytes(b"ARROW1 but no more")
    with pytest.raises(EntriesError, match="not a whole Arrow file"):
        Entries.open(path)
    with pa.ipc.new_file(str(path), pa.schema([("image_id", pa.int64())])) as file:
        file.write_batch(pa.record_batch({"image_id": pa.array([1])}))
    with pytest.raises(EntriesError, match="not the entries of an index"):
        Entries.open(path)
    with pytest.raises(EntriesError, match="answers nothing"):
        write_entries(path, entries_table(IDS[:0], LANDMARKS[:0]))
    with pytest.raises(EntriesError, match="must rise"):
        write_entries(path, entries_table(np.array([1, 1]), np.array([2, 3])))
