"""GLDv2 fetched from a real server with a small data set of its layout."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sources.gldv2_layout import LICENCE, NAMELESS, NAMES, Layout, Manners, serve, write_csv, write_layout, write_md5

from cairn.manifest import read_images, read_landmarks, write_images, write_landmarks
from cairn.params import Gldv2Params
from cairn.shards import ShardReader
from cairn.sources.base import Fetched, SourceError
from cairn.sources.download import CHUNK
from cairn.sources.gldv2 import Gldv2Source


class Site(NamedTuple):
    layout: Layout
    url: str
    manners: Manners
    folder: Path

    def fetch(self, **changes: Any) -> Fetched:
        """As the stage does: `out` is new each time, `keep` stays."""
        params = {"base_url": self.url + "/", "split": "train", "labels": "full", "first_shard": 0, "last_shard": 2}
        effort = {"workers": 2, "retries": 3, "timeout_s": 10}
        source = Gldv2Source(Gldv2Params.model_validate(params | effort | changes), backoff_s=0.001)
        return source.fetch(self.folder / "out", self.folder / "keep")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    layout = write_layout(tmp_path / "server")
    with serve(layout.root) as (url, manners):
        yield Site(layout, url, manners, tmp_path)


def landmarks_of(fetched: Fetched) -> dict[str, int | None]:
    return dict(zip(fetched.images["image_id"].to_pylist(), fetched.images["landmark_id"].to_pylist(), strict=True))


def contents_of(fetched: Fetched, out: Path) -> dict[str, bytes]:
    with ShardReader(out) as reader:
        rows = fetched.images.to_pylist()
        return {row["image_id"]: reader.read(row["shard"], row["offset"], row["size"]) for row in rows}


def listed(site: Site, split: str, shards: range) -> dict[str, bytes]:
    return {k: v for k, v in site.layout.content(split, shards).items() if k in site.layout.labels[split]}


def test_train(site: Site) -> None:
    fetched = site.fetch()
    expected = listed(site, "train", range(3))
    assert contents_of(fetched, site.folder / "out") == expected
    assert landmarks_of(fetched) == {key: site.layout.labels["train"][key] for key in expected}
    assert fetched.images["image_id"].to_pylist() == sorted(expected)
    for row in fetched.images.to_pylist():
        key = row["image_id"]
        assert row["source_name"] == f"train/{key[0]}/{key[1]}/{key[2]}/{key}.jpg"
        assert (row["author"], row["licence"]) == (site.layout.authors[key] or None, LICENCE)
    assert dict(zip(*(fetched.landmarks[name].to_pylist() for name in ("landmark_id", "name")), strict=True)) == {
        **NAMES,
        NAMELESS: f"landmark {NAMELESS}",
    }
    assert fetched.facts == {
        "images": 15,
        "distractors": 0,
        "images_in_tars": 18,
        "not_listed": 3,
        "repeated_in_tars": 0,
        "listed": 16,
        "missing_in_tars": 1,
        "unlabelled": 0,
        "listed_again": 0,
        "shards": 3,
        "landmarks": 4,
        "landmarks_without_name": 1,
        "no_category_file": 0,
        "no_attribution_file": 0,
    }


def test_tables_can_be_written_and_read(site: Site) -> None:
    fetched = site.fetch()
    write_images(site.folder / "out", fetched.images)
    write_landmarks(site.folder / "out", fetched.landmarks)
    assert read_images(site.folder / "out").equals(fetched.images)
    assert read_landmarks(site.folder / "out").equals(fetched.landmarks)


def test_shards_are_delivered_as_they_are_in_no_more_room_and_a_run_killed_after_that_fetches_nothing(
    site: Site,
) -> None:
    site.fetch()
    for number in range(3):
        name = f"images_{number:03d}.tar"
        assert (site.folder / "out" / name).read_bytes() == (site.layout.root / "train" / name).read_bytes()
        (kept,) = (site.folder / "keep").rglob(name)
        assert kept.samefile(site.folder / "out" / name)
    shutil.rmtree(site.folder / "out")
    site.manners.requests.clear()
    assert contents_of(site.fetch(), site.folder / "out") == listed(site, "train", range(3))
    assert site.manners.requests.total() == 0


def test_both_releases_of_train_csv_give_the_same(site: Site) -> None:
    first = site.fetch()
    later = write_layout(site.layout.root, with_url=False)
    assert later.labels == site.layout.labels
    for name in ("out", "keep"):
        shutil.rmtree(site.folder / name)
    assert site.fetch().images.equals(first.images)


def test_some_shards(site: Site) -> None:
    fetched = site.fetch(first_shard=1, last_shard=1)
    assert set(fetched.images["shard"].to_pylist()) == {"images_001.tar"}
    assert contents_of(fetched, site.folder / "out") == listed(site, "train", range(1, 2))
    assert site.manners.requests["train/images_000.tar"] == 0


def test_clean_labels(site: Site) -> None:
    fetched = site.fetch(labels="clean")
    expected = {
        key: site.layout.labels["train"][key] for key in listed(site, "train", range(3)) if key in site.layout.clean
    }
    assert landmarks_of(fetched) == expected
    assert set(expected.values()) == {7, 27}
    assert site.manners.requests["metadata/train.csv"] == 0


def test_index_has_landmark_ids_of_its_own(site: Site) -> None:
    fetched = site.fetch(split="index", labels="clean")
    assert landmarks_of(fetched) == site.layout.labels["index"]
    assert fetched.landmarks["name"].to_pylist() == ["Another seven", NAMES[27]]
    assert fetched.images["author"].null_count == fetched.images.num_rows == 18


def test_index_leaves_out_what_is_not_in_both_tables(site: Site) -> None:
    ids = list(site.layout.labels["index"])
    write_csv(site.layout.root / "metadata" / "index.csv", "id", [[key] for key in [*ids[1:], "e" * 16]])
    fetched = site.fetch(split="index")
    assert set(landmarks_of(fetched)) == set(ids[1:])
    assert (fetched.facts["unlabelled"], fetched.facts["labelled_not_in_index"]) == (1, 1)


def test_test_split_has_distractors_and_no_ignored_images(site: Site) -> None:
    fetched = site.fetch(split="test", last_shard=0)
    assert landmarks_of(fetched) == site.layout.labels["test"]
    assert (fetched.facts["distractors"], fetched.facts["ignored"], fetched.facts["not_listed"]) == (2, 1, 1)
    assert fetched.landmarks["name"].to_pylist() == [NAMES[7], NAMES[27], NAMES[203093]]


def test_without_the_optional_files(site: Site) -> None:
    for name in ("train_attribution.csv", "train_label_to_category.csv"):
        (site.layout.root / "metadata" / name).unlink()
    fetched = site.fetch()
    assert fetched.images["author"].null_count == fetched.images["licence"].null_count == 15
    assert fetched.landmarks["name"].to_pylist() == [f"landmark {i}" for i in sorted([*NAMES, NAMELESS])]
    facts = fetched.facts
    assert (facts["no_attribution_file"], facts["no_category_file"], facts["landmarks_without_name"]) == (1, 1, 4)


def test_a_killed_run_fetches_only_the_rest(site: Site) -> None:
    manners = site.manners
    manners.unavailable["train/images_002.tar"] = 100
    with pytest.raises(SourceError, match=r"images_002\.tar.*goes on where it stopped"):
        site.fetch(workers=1)
    assert not (site.folder / "out").exists()
    manners.unavailable.clear()
    manners.sent.clear()
    fetched = site.fetch(workers=1)
    assert contents_of(fetched, site.folder / "out") == listed(site, "train", range(3))
    assert [path for path, count in manners.sent.items() if count and path.endswith("tar")] == ["train/images_002.tar"]


def test_cut_shards_are_resumed(site: Site) -> None:
    name = "train/images_001.tar"
    size = (site.layout.root / name).stat().st_size
    site.manners.cut_after[name], site.manners.cuts[name] = size - 1000, 1
    assert contents_of(site.fetch(), site.folder / "out") == listed(site, "train", range(3))
    assert site.manners.requests[name] == 2
    assert size <= site.manners.sent[name] < size + CHUNK


def test_corrupted_once(site: Site) -> None:
    site.manners.corrupt["train/images_001.tar"] = 1
    assert contents_of(site.fetch(), site.folder / "out") == listed(site, "train", range(3))


def test_corrupted_always(site: Site) -> None:
    site.manners.corrupt["train/images_001.tar"] = 100
    with pytest.raises(SourceError, match=r"train/images_001\.tar: wrong md5"):
        site.fetch()
    assert not (site.folder / "out").exists()


def test_a_shard_number_that_does_not_exist(site: Site) -> None:
    with pytest.raises(SourceError, match=r"images_003.*no such file.*last_shard"):
        site.fetch(last_shard=3)


def test_a_shard_that_is_no_tar(site: Site) -> None:
    (site.layout.root / "train" / "images_001.tar").write_bytes(b"no tar at all" * 100)
    write_md5(site.layout.root, "train", 1)
    with pytest.raises(SourceError, match=r"images_001\.tar: not a whole tar file.*leave this shard out"):
        site.fetch()


def test_labels_of_another_data_set(site: Site) -> None:
    write_csv(site.layout.root / "metadata" / "train.csv", "id,landmark_id", [["0" * 16, 1]])
    with pytest.raises(SourceError, match="none of 18 images in the shards is in the labels"):
        site.fetch()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metadata/train.csv", "<html>", r"train\.csv: no CSV with columns id,landmark_id"),
        ("metadata/train.csv", "id,landmark_id\nabc,1\n", r"train\.csv: id 'abc' is not 16 hexadecimal"),
        ("metadata/train.csv", f"id,landmark_id\n{'0' * 16},x\n", r"train\.csv: no CSV.*'x'"),
        ("metadata/train_label_to_category.csv", "", r"train_label_to_category\.csv: no CSV"),
    ],
)
def test_a_table_that_is_none_is_discarded_and_fetched_anew(site: Site, name: str, text: str, message: str) -> None:
    path = site.layout.root / name
    whole = path.read_text()
    path.write_text(text)
    with pytest.raises(SourceError, match=message):
        site.fetch()
    path.write_text(whole)
    assert site.fetch().images.num_rows == 15


def test_landmarks_that_are_no_numbers(site: Site) -> None:
    path = site.layout.root / "ground_truth" / "recognition_solution_v2.1.csv"
    write_csv(path, "id,landmarks,Usage", [["0" * 16, "7 x", "Public"]])
    with pytest.raises(SourceError, match=r"recognition_solution_v2\.1\.csv: landmarks = '7 x'"):
        site.fetch(split="test", last_shard=0)


def test_rows_without_landmark_and_rows_given_twice(site: Site) -> None:
    rows = [[key, value] for key, value in site.layout.labels["train"].items()]
    rows = [*rows[:-2], [rows[-2][0], ""], rows[-1], rows[0]]
    write_csv(site.layout.root / "metadata" / "train.csv", "id,landmark_id", rows)
    facts = site.fetch().facts
    assert (facts["images"], facts["unlabelled"], facts["listed_again"]) == (14, 1, 1)
