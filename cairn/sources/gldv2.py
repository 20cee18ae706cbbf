"""Google Landmarks v2 (Weyand et al. 2020, arXiv:2004.01804) as its authors serve it, or anything laid out like it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from cairn.files import discard, link
from cairn.manifest import IMAGES, LANDMARKS, whole
from cairn.params import Gldv2Params
from cairn.progress import progress
from cairn.shards import ShardError, index_shard
from cairn.sources.base import Fetched, SourceError, plain
from cairn.sources.download import AGAIN, Effort, Wanted, download_all

HINT = "check fetch.gldv2.base_url, split, first_shard and last_shard"

TRAIN = "metadata/train.csv"
CLEAN = "metadata/train_clean.csv"
INDEX = "metadata/index.csv"
INDEX_LANDMARKS = "metadata/index_image_to_landmark.csv"
TEST_LANDMARKS = "ground_truth/recognition_solution_v2.1.csv"
ATTRIBUTION = "metadata/train_attribution.csv"
TRAIN_CATEGORIES = "metadata/train_label_to_category.csv"
INDEX_CATEGORIES = "metadata/index_label_to_category.csv"

ID = pa.field("id", pa.string())
LANDMARK = pa.field("landmark_id", pa.int64())
CATEGORY = pa.field("category", pa.string())
BLOCK = 16 << 20  # bytes that the CSV reader takes at once; a row must fit
MAX_SHOWN = 200  # characters of what is wrong


class _Tables(NamedTuple):
    """Which CSV files a split needs, below the base address."""

    labels: tuple[str, ...]
    categories: str
    attribution: tuple[str, ...] = ()


class _Labels(NamedTuple):
    """Listed images: `table` has id (unique) and landmark_id (null: a distractor); `left_out` are counts by reason."""

    table: pa.Table
    left_out: dict[str, int]


class Gldv2Source:
    """Shards of one split, downloaded as they are and indexed in place; ids and landmark ids are the data set's own."""

    def __init__(self, params: Gldv2Params, backoff_s: float = 0.5) -> None:
        """`backoff_s`: wait before the first retry, in seconds; doubled before each further one."""
        self.params = params
        self.effort = Effort(params.workers, params.retries, params.timeout_s, backoff_s)
        self.base = params.base_url.rstrip("/")

    def fetch(self, out: Path, keep: Path) -> Fetched:
        """Bring the shards into `out`, their images into a manifest: all that are both in a shard and in the labels.

        train: labels of train.csv, or of train_clean.csv; index: of index_image_to_landmark.csv, as far as index.csv
        lists them; test: the first label of recognition_solution_v2.1.csv, none for a distractor, without the rows
        whose Usage is Ignored. `params.labels` is about train; the other splits have no clean list. Author and licence
        come from train_attribution.csv, names from the categories; both files may be absent.

        All is downloaded into `keep` first, and linked from `out` when it is complete and readable, so that a run that
        is killed or fails goes on where it stopped. On one file system that takes no room.

        Raises SourceError, naming the address or file, if a file is absent, cannot be fetched, or is not as in GLDv2.
        """
        store = keep / "gldv2" / hashlib.sha256(self.base.encode()).hexdigest()[:16]
        tables = self._tables()
        there = self._download_metadata(store, tables)
        labels = self._read_labels(store)
        categories = self._read_categories(store, tables, there)
        attribution = self._read_attribution(store, tables, there)
        shards = self._download_shards(store)
        members = _index(shards, self.params.split)
        images, facts = _join(members, labels, attribution)
        if images.num_rows == 0:
            raise SourceError(f"{self.base}: none of {members.num_rows} images in the shards is in the labels; {HINT}")
        landmarks, unnamed = _landmarks(images, categories)
        for shard in shards:
            link(shard, out / shard.name)
        facts |= {
            "shards": len(shards),
            "landmarks": landmarks.num_rows,
            "landmarks_without_name": unnamed,
            "no_category_file": int(categories is None),
            "no_attribution_file": len(tables.attribution) - int(attribution is not None),
        }
        return Fetched(images, landmarks, facts)

    def _tables(self) -> _Tables:
        if self.params.split == "index":
            return _Tables((INDEX, INDEX_LANDMARKS), INDEX_CATEGORIES)
        if self.params.split == "test":
            return _Tables((TEST_LANDMARKS,), TRAIN_CATEGORIES)
        return _Tables((CLEAN if self.params.labels == "clean" else TRAIN,), TRAIN_CATEGORIES, (ATTRIBUTION,))

    def _download_metadata(self, store: Path, tables: _Tables) -> set[Path]:
        wanted = [Wanted(f"{self.base}/{name}", store / name) for name in tables.labels]
        for name in (tables.categories, *tables.attribution):
            wanted.append(Wanted(f"{self.base}/{name}", store / name, optional=True))
        return download_all(wanted, self.effort, "fetching labels", HINT)

    def _download_shards(self, store: Path) -> list[Path]:
        split, wanted = self.params.split, []
        for number in range(self.params.first_shard, self.params.last_shard + 1):
            name = f"images_{number:03d}"
            md5_url = f"{self.base}/md5sum/{split}/md5.{name}.txt"
            wanted.append(Wanted(f"{self.base}/{split}/{name}.tar", store / split / f"{name}.tar", md5_url))
        download_all(wanted, self.effort, f"fetching {len(wanted)} {split} shards", HINT)
        return [item.target for item in wanted]

    def _read_labels(self, store: Path) -> _Labels:
        if self.params.split == "index":
            return _unique(*_index_labels(store / INDEX, store / INDEX_LANDMARKS), store / INDEX_LANDMARKS)
        if self.params.split == "test":
            return _unique(*_test_labels(store / TEST_LANDMARKS), store / TEST_LANDMARKS)
        if self.params.labels == "clean":
            return _unique(*_clean_labels(store / CLEAN), store / CLEAN)
        return _unique(*_train_labels(store / TRAIN), store / TRAIN)

    def _read_categories(self, store: Path, tables: _Tables, there: set[Path]) -> pa.Table | None:
        path = store / tables.categories
        return _read_csv(path, [LANDMARK, CATEGORY]) if path in there else None

    def _read_attribution(self, store: Path, tables: _Tables, there: set[Path]) -> pa.Table | None:
        paths = [store / name for name in tables.attribution if store / name in there]
        fields = [ID, pa.field("author", pa.string()), pa.field("license", pa.string())]
        return _read_csv(paths[0], fields) if paths else None


def _read_csv(path: Path, fields: list[pa.Field]) -> pa.Table:
    """The named columns of a CSV file with a header, others passed over. Discards a file that is not such a table."""
    try:
        return csv.read_csv(
            path,
            read_options=csv.ReadOptions(block_size=BLOCK),
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                column_types=pa.schema(fields), include_columns=[f.name for f in fields]
            ),
        )
    except (pa.ArrowException, OSError) as error:
        names = ",".join(field.name for field in fields)
        raise _unusable(path, f"no CSV with columns {names} ({_short(str(error))})") from error


def _unusable(path: Path, reason: str) -> SourceError:
    """The error for a table that a later run should fetch anew; discards it."""
    discard(path)
    return SourceError(f"{path.name}: {reason}; it was discarded: {HINT}, then {AGAIN}")


def _train_labels(path: Path) -> tuple[pa.Table, dict[str, int]]:
    """train.csv of either release."""
    return _labelled(_read_csv(path, [ID, LANDMARK]))


def _labelled(rows: pa.Table) -> tuple[pa.Table, dict[str, int]]:
    """A row without a landmark says nothing about its image, not that it shows none: it is left out."""
    known = rows.filter(pc.is_valid(rows["landmark_id"]))
    return known, {"unlabelled": rows.num_rows - known.num_rows}


def _clean_labels(path: Path) -> tuple[pa.Table, dict[str, int]]:
    """train_clean.csv (landmark_id,images: ids with spaces between) as a row per image."""
    rows = _read_csv(path, [LANDMARK, pa.field("images", pa.string())]).combine_chunks()
    lists = whole(pc.split_pattern_regex(pc.utf8_trim_whitespace(rows["images"]), r"\s+"))
    ids = pc.list_flatten(lists)
    return _labelled(
        pa.table({"id": ids, "landmark_id": whole(rows["landmark_id"]).take(pc.list_parent_indices(lists))})
    )


def _index_labels(listed: Path, labels: Path) -> tuple[pa.Table, dict[str, int]]:
    """index_image_to_landmark.csv as far as index.csv lists its images."""
    ids = _read_csv(listed, [ID])["id"]
    rows, _ = _labelled(_read_csv(labels, [ID, LANDMARK]))
    known = rows.filter(pc.is_in(rows["id"], value_set=whole(ids)))
    unlabelled = pc.sum(pc.invert(pc.is_in(ids, value_set=whole(rows["id"])))).as_py() or 0
    return known, {"unlabelled": unlabelled, "labelled_not_in_index": rows.num_rows - known.num_rows}


def _test_labels(path: Path) -> tuple[pa.Table, dict[str, int]]:
    """The recognition ground truth: an image's first landmark, null for none; without ignored images."""
    rows = _read_csv(path, [ID, pa.field("landmarks", pa.string()), pa.field("Usage", pa.string())])
    used = rows.filter(pc.not_equal(rows["Usage"], "Ignored"))
    landmarks = pc.utf8_trim_whitespace(used["landmarks"])
    # 18 digits fit into the 64 bits of an id
    wrong = landmarks.filter(pc.invert(pc.match_substring_regex(landmarks, r"^(\d{1,18}(\s+\d{1,18})*)?$")))
    if len(wrong):
        raise _unusable(path, f"landmarks = {_cut(wrong[0])}, not landmark ids with spaces between")
    first = pc.struct_field(pc.extract_regex(landmarks, r"^(?P<first>\d+)"), "first").cast(pa.int64())
    return pa.table({"id": used["id"], "landmark_id": first}), {"ignored": rows.num_rows - used.num_rows}


def _cut(value: pa.Scalar) -> str:
    """A wrong value as a message shows it."""
    return _short(repr(value.as_py()))


def _short(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _unique(table: pa.Table, left_out: dict[str, int], path: Path) -> _Labels:
    """Checks ids of images and landmarks; keeps the first of rows that name one image."""
    wrong = table["id"].filter(pc.invert(pc.match_substring_regex(table["id"], "^[0-9a-f]{16}$")))
    if len(wrong):
        raise _unusable(path, f"id {_cut(wrong[0])} is not 16 hexadecimal characters")
    below = table.filter(pc.less(table["landmark_id"], 0))
    if below.num_rows:
        raise _unusable(path, f"id {below['id'][0]} has the landmark_id {below['landmark_id'][0]}, which is below 0")
    kept = table.take(_firsts(table["id"]))
    return _Labels(kept, left_out | {"listed_again": table.num_rows - kept.num_rows})


def _firsts(values: pa.ChunkedArray) -> pa.Array:
    """Positions, ascending, of the first occurrence of each value."""
    codes = whole(values).dictionary_encode().indices.to_numpy(zero_copy_only=False)
    return pa.array(np.sort(np.unique(codes, return_index=True)[1]))


def _index(shards: Sequence[Path], split: str) -> pa.Table:
    """Every file in the shards: the columns of IMAGES that a shard knows, in the shards' order."""
    parts = []
    for path in progress(shards, "indexing shards", unit="shard"):
        try:
            members = index_shard(path, path.parent)
        except ShardError as error:
            discard(path)
            advice = f"it was discarded: {AGAIN}, and if that does not help, leave this shard out: {HINT}"
            raise SourceError(f"{error}; {advice}") from error
        names = [os.fsencode(member.name).decode("utf-8", "replace").removeprefix("./") for member in members]
        parts.append(
            pa.table(
                {
                    "image_id": pa.array((name.rpartition("/")[2].partition(".")[0] for name in names), pa.string()),
                    "shard": pa.array([path.name] * len(members), pa.string()),
                    "offset": pa.array((member.offset for member in members), pa.int64()),
                    "size": pa.array((member.size for member in members), pa.int64()),
                    "source_name": pa.array((f"{split}/{name}" for name in names), pa.string()),
                }
            )
        )
    return pa.concat_tables(parts)


def _join(members: pa.Table, labels: _Labels, attribution: pa.Table | None) -> tuple[pa.Table, dict[str, int]]:
    """Rows of IMAGES, sorted by image id, for members that are listed; and counts that add up:

    images_in_tars = images + not_listed + repeated_in_tars, and listed = images + missing_in_tars.
    """
    at = pc.index_in(members["image_id"], value_set=whole(labels.table["id"]))
    listed = members.append_column("landmark_id", labels.table["landmark_id"].take(at)).filter(pc.is_valid(at))
    images = listed.take(_firsts(listed["image_id"])).sort_by("image_id")
    nobody = pa.nulls(images.num_rows, pa.string())
    images = images.append_column("author", nobody).append_column("licence", nobody)
    if attribution is not None:
        row = pc.index_in(images["image_id"], value_set=whole(attribution["id"]))
        for name, column in (("author", "author"), ("licence", "license")):
            text = attribution[column].take(row)
            given = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
            images = images.set_column(images.column_names.index(name), name, given)
    facts = {
        "images": images.num_rows,
        "distractors": images["landmark_id"].null_count,
        "images_in_tars": members.num_rows,
        "not_listed": members.num_rows - listed.num_rows,
        "repeated_in_tars": listed.num_rows - images.num_rows,
        "listed": labels.table.num_rows,
        "missing_in_tars": labels.table.num_rows - images.num_rows,
    }
    return images.select(IMAGES.names).cast(IMAGES), facts | labels.left_out


def _landmarks(images: pa.Table, categories: pa.Table | None) -> tuple[pa.Table, int]:
    """The landmarks that the images show, named by their category; and how many have no category."""
    ids = pc.unique(images["landmark_id"].drop_null()).sort()
    texts: list[str | None] = [None] * len(ids)
    if categories is not None:
        at = pc.index_in(ids, value_set=whole(categories["landmark_id"]))
        texts = [text or None for text in categories["category"].take(at).to_pylist()]
    names = [_name(text) if text else "" for text in texts]
    shown = [name or f"landmark {number}" for name, number in zip(names, ids.to_pylist(), strict=True)]
    return pa.table({"landmark_id": ids, "name": shown, "category": texts}, schema=LANDMARKS), names.count("")


def _name(category: str) -> str:
    """.../wiki/Category:Tour_Eiffel_%28Paris%29 -> Tour Eiffel (Paris)."""
    _, found, name = category.partition("Category:")
    return plain(unquote(name if found else category.rstrip("/").rpartition("/")[2])).replace("_", " ").strip()
