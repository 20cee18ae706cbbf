"""The manifest: ids there and back, order, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cairn.manifest import (
    IMAGES,
    ManifestError,
    as_image_id,
    as_number,
    as_numbers,
    image_id_of,
    labels_of,
    read_images,
    write_images,
)


def row(image_id: str, landmark_id: int | None = 1) -> dict[str, object]:
    return {
        "image_id": image_id,
        "shard": "shard_00000.tar",
        "offset": 512,
        "size": 10,
        "landmark_id": landmark_id,
        "source_name": f"x/{image_id}.jpg",
        "author": None,
        "licence": None,
    }


@given(st.integers(0, 2**64 - 1))
def test_an_image_id_survives_as_a_number(value: int) -> None:
    image_id = f"{value:016x}"
    assert as_image_id(as_number(image_id)) == image_id
    assert -(2**63) <= as_number(image_id) < 2**63


@given(st.lists(st.integers(0, 2**64 - 1)), st.booleans(), st.integers(0, 3))
def test_many_ids_are_the_numbers_that_each_is(values: list[int], upper: bool, start: int) -> None:
    ids = [f"{value:016X}" if upper else f"{value:016x}" for value in values]
    numbers = [as_number(image_id) for image_id in ids]
    assert as_numbers(pa.array(ids, pa.string())[start:]).tolist() == numbers[start:]
    chunks = pa.chunked_array([ids[:2], ids[2:]], pa.string())
    assert as_numbers(chunks).tolist() == numbers


@pytest.mark.parametrize("wrong", ["", "0" * 15, "0" * 17, "0" * 15 + "g", "0" * 15 + ":", "0" * 15 + "\n"])
def test_what_is_no_id_has_no_number(wrong: str) -> None:
    with pytest.raises(ManifestError, match="not 16 hexadecimal"):
        as_numbers(pa.array(["0" * 16, wrong]))


def test_known_ids() -> None:
    assert as_number("ffffffffffffffff") == -1
    assert as_number("000000000000000a") == 10
    # The first 8 bytes of the published SHA-256 of "abc".
    assert image_id_of("abc") == "ba7816bf8f01cfea"


def test_rows_are_sorted_and_the_bytes_do_not_depend_on_their_order(tmp_path: Path) -> None:
    rows = [row("000000000000000b"), row("000000000000000a", None)]
    for name, given_rows in (("one", rows), ("two", rows[::-1])):
        write_images(tmp_path / name, pa.Table.from_pylist(given_rows, schema=IMAGES))
    assert read_images(tmp_path / "one")["image_id"].to_pylist() == ["000000000000000a", "000000000000000b"]
    one, two = ((tmp_path / name / "images.parquet").read_bytes() for name in ("one", "two"))
    assert one == two


def test_what_is_refused(tmp_path: Path) -> None:
    twice = pa.Table.from_pylist([row("000000000000000a")] * 2, schema=IMAGES)
    with pytest.raises(ManifestError, match="000000000000000a comes twice"):
        write_images(tmp_path, twice)
    with pytest.raises(ManifestError, match=r"missing \['licence'\]"):
        write_images(tmp_path, twice.drop_columns(["licence"]))
    with pytest.raises(ManifestError, match="dvc repro"):
        read_images(tmp_path / "nowhere")
    (tmp_path / "images.parquet").write_text("not parquet")
    with pytest.raises(ManifestError, match="not a parquet file"):
        read_images(tmp_path)


def test_texts_that_are_no_utf8_are_refused_when_they_are_read(tmp_path: Path) -> None:
    """Arrow reads them, and only fails where they are used."""
    wrong = pa.array([b"\xff\xfe"], pa.binary()).view(pa.string())
    table = pa.Table.from_pylist([row("000000000000000a")], schema=IMAGES)
    pq.write_table(table.set_column(6, IMAGES.field("author"), wrong), tmp_path / "images.parquet")
    with pytest.raises(ManifestError, match="UTF8"):
        read_images(tmp_path)


def test_a_column_of_another_kind_is_refused(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([row("000000000000000a")], schema=IMAGES)
    table = table.set_column(2, "offset", pa.array([[1]], pa.list_(pa.int64())))
    pq.write_table(table, tmp_path / "images.parquet")
    with pytest.raises(ManifestError, match=r"images\.parquet: .*cast"):
        read_images(tmp_path)


def test_distractors_have_no_label() -> None:
    assert labels_of(pa.table({"landmark_id": pa.array([3, None, 0], pa.int64())})).tolist() == [3, -1, 0]
