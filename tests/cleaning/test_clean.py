"""Cleaning on photos made for it: each reason is found where it was put, and counts add up."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cleaning.made_photos import scene
from harmful import encoded
from PIL import Image

from cairn.cleaning import looks
from cairn.cleaning.clean import Cleaned, CleaningError, clean
from cairn.cleaning.inspection import Look, inspect
from cairn.cleaning.suspects import table_of, with_indoor
from cairn.manifest import image_id_of, read_images, read_landmarks, write_images, write_landmarks
from cairn.params import CleanParams, load_params
from cairn.photos import decode
from cairn.shards import ShardReader
from cairn.sources.base import Photo, pack

ROOT = Path(__file__).parents[2]


def settings(**changes: object) -> CleanParams:
    params = load_params(ROOT / "params.yaml").clean
    return params.model_copy(update={"workers": 1, "min_class_size": 2, "short_side": 64, **changes})


def cleaned(
    tmp_path: Path, photos: dict[str, tuple[int | None, bytes]], params: CleanParams, **functions: object
) -> Cleaned:
    raw, out = tmp_path / "raw", tmp_path / "out"
    raw.mkdir()
    given = [Photo(image_id_of(name), content, label, name) for name, (label, content) in photos.items()]
    write_images(raw, pack(given, raw, 1.0))
    labels = sorted({label for label, _ in photos.values() if label is not None})
    names = {"landmark_id": labels, "name": [f"Tower {i}" for i in labels], "category": [None] * len(labels)}
    write_landmarks(raw, pa.table(names))
    return clean(raw, out, tmp_path / "stash", params, functions.get("embed"), functions.get("vote"))  # type: ignore[arg-type]


def reasons(tmp_path: Path) -> dict[str, str]:
    table = pq.read_table(tmp_path / "out" / "dropped.parquet").to_pydict()
    assert [image_id_of(name) for name in table["source_name"]] == table["image_id"]
    return dict(zip(table["image_id"], table["reason"], strict=True))


GOOD = {f"{label}/{n}.png": (label, encoded(scene(10 * label + n))) for label in (1, 2) for n in range(3)}


def test_each_reason_is_found_once_and_counts_add_up(tmp_path: Path) -> None:
    broken = encoded(scene(50), "JPEG")
    bad: dict[str, tuple[int | None, bytes, str]] = {
        "1/cut.jpg": (1, broken[: len(broken) // 2], "undecodable"),
        "1/empty.jpg": (1, b"", "undecodable"),
        "1/tiny.png": (1, encoded(scene(51, 20, 31)), "too small"),
        "1/long.png": (1, encoded(scene(52, 400, 40)), "too extreme a shape"),
        "1/conflict.png": (1, encoded(scene(53)), "label conflict of identical photos"),
        "2/conflict.webp": (2, encoded(scene(53), "WEBP", lossless=True), "label conflict of identical photos"),
        "3/alone.png": (3, encoded(scene(54)), "class below the minimum"),
    }
    photos = {**GOOD, **{name: (label, content) for name, (label, content, _) in bad.items()}}
    result = cleaned(tmp_path, photos, settings())
    assert reasons(tmp_path) == {image_id_of(name): reason for name, (_, _, reason) in bad.items()}
    assert (result.kept, result.dropped) == (len(GOOD), len(bad))
    assert sum(result.reasons.values()) == len(bad)
    assert read_landmarks(tmp_path / "out")["landmark_id"].to_pylist() == [1, 2]


def test_no_landmark_left_is_an_error_that_names_param_landmark_and_way_out(tmp_path: Path) -> None:
    two = {
        f"{label}/{n}.png": (label, encoded(scene(10 * label + n)))
        for label, count in ((1, 1), (7, 2))
        for n in range(count)
    }
    alone = {"none/0.png": (None, encoded(scene(99)))}
    said = r"clean\.min_class_size = 3 .* largest one, 7, has 2 photos .*; lower it to 2, or .* `dvc repro`"
    (tmp_path / "few").mkdir()
    with pytest.raises(CleaningError, match=said):
        cleaned(tmp_path / "few", {**two, **alone, "7/again.png": two["7/0.png"]}, settings(min_class_size=3))
    assert not (tmp_path / "few" / "out").exists()
    (tmp_path / "broken").mkdir()
    with pytest.raises(CleaningError, match=r"no landmark photo is left \(2 undecodable, 1 too small\); mend"):
        tiny = {"2/tiny.png": (2, encoded(scene(51, 20, 31)))}
        cleaned(tmp_path / "broken", {**alone, **tiny, "1/a.png": (1, b""), "1/b.png": (1, b"x")}, settings())


def test_of_exact_duplicates_the_smallest_id_stays_whatever_the_format(tmp_path: Path) -> None:
    twins = {f"1/twin.{kind}": (1, encoded(scene(60), kind)) for kind in ("PNG", "BMP", "TIFF")}
    cleaned(tmp_path, {**GOOD, **twins}, settings())
    ids = sorted(image_id_of(name) for name in twins)
    assert reasons(tmp_path) == dict.fromkeys(ids[1:], "exact duplicate")


def test_a_distractor_that_is_also_a_landmark_is_a_conflict(tmp_path: Path) -> None:
    both = {"1/x.png": (1, encoded(scene(61))), "none/x.png": (None, encoded(scene(61)))}
    cleaned(tmp_path, {**GOOD, **both}, settings())
    assert set(reasons(tmp_path).values()) == {"label conflict of identical photos"}
    assert len(reasons(tmp_path)) == 2


def test_near_duplicates_of_one_label_are_dropped_for_the_larger_and_grouped_across_labels(tmp_path: Path) -> None:
    large = scene(70, 200, 150)
    photos = {
        **GOOD,
        "1/large.png": (1, encoded(large)),
        "1/small.jpg": (1, encoded(large.resize((160, 120)), "JPEG", quality=70)),
        "2/other.jpg": (2, encoded(large.resize((140, 105)), "JPEG", quality=70)),
    }
    cleaned(tmp_path, photos, settings())
    assert reasons(tmp_path) == {image_id_of("1/small.jpg"): "near duplicate"}
    pairs = pq.read_table(tmp_path / "out" / "pairs.parquet").to_pylist()
    assert [{p["image_a"], p["image_b"]} for p in pairs] == [{image_id_of("1/large.png"), image_id_of("2/other.jpg")}]


def test_photos_without_features_are_not_taken_for_duplicates(tmp_path: Path) -> None:
    flat = {f"1/{shade}.png": (1, encoded(Image.new("RGB", (90, 90), (shade,) * 3))) for shade in (10, 90, 200)}
    result = cleaned(tmp_path, {**GOOD, **flat}, settings())
    assert result.dropped == 0
    assert result.pairs == {"hash": 0, "embedding": 0}


def test_embeddings_find_what_hashes_do_not(tmp_path: Path) -> None:
    names = sorted(GOOD, key=image_id_of)
    vectors = np.eye(len(names), 8, dtype=np.float32)
    same, near = names.index("1/0.png"), names.index("1/1.png")
    vectors[near] = vectors[same]
    grouped = [names.index("2/0.png"), names.index("2/1.png")]
    vectors[grouped[1]] = 0.95 * vectors[grouped[0]] + np.sqrt(1 - 0.95**2) * np.eye(8, dtype=np.float32)[7]
    result = cleaned(tmp_path, GOOD, settings(), embed=lambda images: vectors)
    assert list(reasons(tmp_path).values()) == ["near duplicate"]
    assert result.pairs == {"hash": 0, "embedding": 1}


def test_the_indoor_vote_doubts_what_has_too_few_votes_and_drops_nothing(tmp_path: Path) -> None:
    votes = np.array([5, 2, 3, 0, 4, 3])
    result = cleaned(tmp_path, GOOD, settings(), vote=lambda images: votes)
    ids = sorted(image_id_of(name) for name in GOOD)
    assert (result.dropped, sum(result.suspects.values())) == (0, 2)
    assert pq.read_table(tmp_path / "out" / "suspects.parquet").to_pylist() == [
        {"image_id": ids[1], "method": "scenes", "evidence": "2 of 5 likeliest scenes are outdoors"},
        {"image_id": ids[3], "method": "scenes", "evidence": "0 of 5 likeliest scenes are outdoors"},
    ]


def test_distractors_may_be_indoors(tmp_path: Path) -> None:
    """Six photos of landmarks and one of none: the vote is asked about the six alone."""
    asked: list[int] = []

    def vote(images: pa.Table) -> np.ndarray:
        asked.append(images.num_rows)
        return np.zeros(images.num_rows, np.int64)

    others = {"x/other.jpg": (None, encoded(scene(90, 120, 90), "JPEG"))}
    result = cleaned(tmp_path, GOOD | others, settings(), vote=vote)
    assert (asked, sum(result.suspects.values())) == ([len(GOOD)], len(GOOD))
    suspects = pq.read_table(tmp_path / "out" / "suspects.parquet")["image_id"].to_pylist()
    assert image_id_of("x/other.jpg") not in suspects


def test_a_photo_doubted_twice_is_one_suspect_with_both_reasons() -> None:
    found = table_of({"b": ("neighbours", "2 of 10"), "a": ("neighbours", "1 of 10")})
    assert with_indoor(found, [("b", "0 of 5"), ("c", "1 of 5")]).to_pylist() == [
        {"image_id": "a", "method": "neighbours", "evidence": "1 of 10"},
        {"image_id": "b", "method": "neighbours, scenes", "evidence": "2 of 10; 0 of 5"},
        {"image_id": "c", "method": "scenes", "evidence": "1 of 5"},
    ]


def test_small_photos_keep_their_bytes_and_large_ones_are_resized_once(tmp_path: Path) -> None:
    small, large = encoded(scene(80, 80, 60), "JPEG"), encoded(scene(81, 400, 300))
    cleaned(tmp_path, {"1/s.jpg": (1, small), "1/l.png": (1, large)}, settings())
    rows = {row["source_name"]: row for row in read_images(tmp_path / "out").to_pylist()}
    with ShardReader(tmp_path / "out") as reader:
        kept = {name: reader.read(row["shard"], row["offset"], row["size"]) for name, row in rows.items()}
    assert kept["1/s.jpg"] == small
    stored = decode(kept["1/l.png"], 10_000, 10)
    assert stored.size == (85, 64)
    wanted = np.asarray(scene(81, 400, 300).resize((85, 64), Image.Resampling.LANCZOS), dtype=float)
    assert np.abs(np.asarray(stored, dtype=float) - wanted).mean() < 3


KILLED = """
import os, signal, sys
from itertools import islice
from pathlib import Path
from cairn.cleaning import looks
from cairn.cleaning.clean import clean
from cairn.params import CleanParams
raw, out, keep = map(Path, sys.argv[1:4])
whole, seen = looks.inspect, int(sys.argv[4])
def inspect(*given):
    yield from islice(whole(*given), seen)
    os.kill(os.getpid(), signal.SIGKILL)
looks.inspect, looks.PART = inspect, 3
clean(raw, out, keep, CleanParams.model_validate_json(sys.argv[5]), None, None)
"""


@pytest.mark.parametrize("seen", range(0, 12, 2))
def test_a_killed_run_goes_on_and_makes_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: int
) -> None:
    monkeypatch.setattr(looks, "PART", 3)
    photos = {**GOOD, **{f"1/big{n}.png": (1, encoded(scene(90 + n, 300, 200))) for n in range(4)}, "2/no": (2, b"no")}
    cleaned(tmp_path, photos, settings())
    raw, out, keep = tmp_path / "raw", tmp_path / "again", tmp_path / "keep"
    given = [raw, out, keep, str(seen), settings().model_dump_json()]
    ran = subprocess.run([sys.executable, "-c", KILLED, *given], check=False)
    assert ran.returncode == -signal.SIGKILL
    with (keep / "resized").open("ab") as file:
        file.write(b"half a photo")

    asked: list[int] = []

    def counted(raw: Path, images: pa.Table, params: CleanParams) -> Iterator[Look]:
        asked.append(images.num_rows)
        yield from inspect(raw, images, params)

    monkeypatch.setattr(looks, "inspect", counted)
    clean(raw, out, keep, settings(), None, None)
    assert asked == [len(photos) - seen // 3 * 3]
    for file in sorted((tmp_path / "out").iterdir()):
        assert (out / file.name).read_bytes() == file.read_bytes()


def test_looks_without_their_resized_photos_are_made_again(tmp_path: Path) -> None:
    photos = {**GOOD, "1/big.png": (1, encoded(scene(90, 300, 200)))}
    cleaned(tmp_path, photos, settings())
    kept = (tmp_path / "out" / "shard_00000.tar").read_bytes()
    (tmp_path / "stash" / "resized").unlink()
    clean(tmp_path / "raw", tmp_path / "again", tmp_path / "stash", settings(), None, None)
    assert (tmp_path / "again" / "shard_00000.tar").read_bytes() == kept


@pytest.mark.parametrize("workers", [2])
def test_any_number_of_workers_gives_the_same_bytes(tmp_path: Path, workers: int) -> None:
    photos = {**GOOD, "1/big.png": (1, encoded(scene(90, 300, 200))), "1/bad": (1, b"nothing")}
    for name, count in (("one", 1), ("many", workers)):
        (tmp_path / name).mkdir()
        cleaned(tmp_path / name, photos, settings(workers=count))
    files = sorted(path.name for path in (tmp_path / "one" / "out").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "many" / "out").iterdir())
    for file in files:
        assert (tmp_path / "one" / "out" / file).read_bytes() == (tmp_path / "many" / "out" / file).read_bytes()
