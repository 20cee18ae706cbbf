"""The suite on a raw folder made for it: a good one passes, and each breach is found with its number and examples."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from cairn.checks.check import check
from cairn.checks.frame import checked_frame
from cairn.checks.result import CheckResult, breach_table
from cairn.checks.suite import CheckError, run_suite
from cairn.files import write_table
from cairn.manifest import IMAGES, ManifestError, read_images, read_landmarks, write_images, write_landmarks
from cairn.params import ValidateParams
from cairn.sources.base import Photo, pack

PARAMS = ValidateParams(min_decodable_share=0.8, min_landmarks=3, max_class_share=0.5, sample=0, max_photo_mb=1)
IDS = [f"{number:016x}" for number in range(20)]


def photo(number: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Twenty photos: four landmarks of four, and four distractors; a fifth landmark has none."""
    folder = tmp_path / "raw"
    folder.mkdir()
    photos = [Photo(i, photo(n), n // 4 if n < 16 else None, f"{n}.jpg") for n, i in enumerate(IDS)]
    write_images(folder, pack(photos, folder, 1.0))
    names: dict[str, list[Any]] = {"landmark_id": [0, 1, 2, 3, 4], "name": list("abcde"), "category": [None] * 5}
    write_landmarks(folder, pa.table(names))
    return folder


def rewrite(raw: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Change the manifest's rows, past the checks of `write_images`."""
    rows = read_images(raw).to_pylist()
    change(rows)
    write_table(raw / "images.parquet", pa.Table.from_pylist(rows, schema=IMAGES))


def checked(raw: Path, params: ValidateParams = PARAMS) -> CheckResult:
    return check(raw, params, raw.parent / "docs", seed=1, max_megapixels=50)


def breaches(result: CheckResult) -> dict[str, tuple[int, int]]:
    return {item.column: (item.breaches, item.of) for item in result.expectations if not item.passed}


def test_a_good_folder_passes_the_same_way_twice_and_has_data_docs(raw: Path) -> None:
    result = checked(raw)
    assert result.passed
    assert result == checked(raw)
    facts = {"images": 20, "distractors": 4, "landmarks": 5, "landmarks_without_photos": 1, "undecodable": 0}
    assert facts.items() <= result.facts.items()
    assert (raw.parent / "docs" / "index.html").exists()
    assert breach_table(result) == "no breach"


def set_column(column: str, value: Any, *places: int) -> Callable[[list[dict[str, Any]]], None]:
    def change(rows: list[dict[str, Any]]) -> None:
        for place in places:
            rows[place][column] = value

    return change


@pytest.mark.parametrize(
    ("column", "change", "count", "of", "example"),
    [
        ("image_id", set_column("image_id", "0000000000000000", 1), 2, 20, "0000000000000000"),
        ("image_id", set_column("image_id", "000000000000001G", 19), 1, 20, "000000000000001G"),
        ("image_id", set_column("image_id", IDS[19] + "\n", 19), 1, 20, IDS[19]),
        ("label", set_column("landmark_id", 77, 3, 5), 2, 16, "not in landmarks.parquet"),
        ("location", set_column("shard", "shard_99999.tar", 3), 1, 20, "no such shard"),
        ("location", set_column("offset", 10**9, 3, 4, 5), 3, 20, "ends beyond its shard"),
        ("location", set_column("offset", -1, 7), 1, 20, "below 0"),
        ("order", set_column("image_id", "ffffffffffffffff", 4), 1, 20, "id before is greater"),
    ],
)
def test_each_breach_is_found(
    raw: Path, column: str, change: Callable[[list[dict[str, Any]]], None], count: int, of: int, example: str
) -> None:
    rewrite(raw, change)
    result = checked(raw)
    assert breaches(result) == {column: (count, of)}
    table = breach_table(result)
    assert f"{count} of {of}" in table
    assert example in table


def test_too_few_decodable_photos(raw: Path) -> None:
    rewrite(raw, set_column("size", 20, *range(5)))  # cut off
    assert breaches(checked(raw)) == {"decoding": (5, 20)}
    tolerant = PARAMS.model_copy(update={"min_decodable_share": 0.75})
    assert checked(raw, tolerant).passed
    assert len(re.findall(r"\b[0-9a-f]{16} \(.*?\): ", breach_table(checked(raw)).splitlines()[1])) == 3


def test_a_breach_names_the_file_and_no_name_reaches_the_terminal(raw: Path) -> None:
    rewrite(raw, set_column("offset", -1, 7, 8))
    rewrite(raw, set_column("source_name", "landmarks/A/\x1b[31m.jpg", 7))
    rewrite(raw, set_column("source_name", "landmarks/A/b.jpg", 8))
    (line,) = (line for line in breach_table(checked(raw)).splitlines() if "inside their shard" in line)
    assert line.endswith(
        rf"{IDS[7]} ('landmarks/A/\x1b[31m.jpg'): offset or size below 0; "
        f"{IDS[8]} (landmarks/A/b.jpg): offset or size below 0"
    )


def test_an_expectation_that_cannot_be_evaluated_is_a_fault_of_the_checks(raw: Path) -> None:
    frame, _ = checked_frame(raw, PARAMS, np.random.default_rng(0), 100.0)
    with pytest.raises(CheckError, match=r"labels are known landmarks: .*label"):
        run_suite(frame.drop(columns="label"), PARAMS, raw.parent / "docs", lambda ids: dict.fromkeys(ids, ""))


def test_shards_that_dvc_links_to_are_where_they_should_be(raw: Path) -> None:
    (shard,) = raw.glob("*.tar")
    shard.rename(raw.parent / "cached")
    shard.symlink_to(raw.parent / "cached")
    assert checked(raw).passed
    rewrite(raw, set_column("shard", "../cached", 3))
    assert breaches(checked(raw))["location"] == (1, 20)


def test_too_few_landmarks_or_one_too_large(raw: Path) -> None:
    assert breaches(checked(raw, PARAMS.model_copy(update={"min_landmarks": 5}))) == {"landmark_id": (1, 1)}
    assert breaches(checked(raw, PARAMS.model_copy(update={"max_class_share": 0.2}))) == {"landmark_share": (4, 4)}


def test_a_photo_over_the_size_limit(raw: Path) -> None:
    small = PARAMS.model_copy(update={"max_photo_mb": 0.0001, "min_decodable_share": 0.0})
    assert breaches(checked(raw, small)) == {"size": (20, 20)}


def test_a_sample_decodes_so_many_and_no_more(raw: Path) -> None:
    assert checked(raw, PARAMS.model_copy(update={"sample": 7})).facts["sampled"] == 7


def test_a_manifest_without_a_column_is_named(raw: Path) -> None:
    write_table(raw / "images.parquet", read_images(raw).drop_columns(["licence"]))
    with pytest.raises(ManifestError, match="licence"):
        checked(raw)
    assert read_landmarks(raw).num_rows == 5
