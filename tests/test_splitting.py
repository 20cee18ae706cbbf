from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cairn.files import write_table
from cairn.locations import Location
from cairn.manifest import NONE, write_images
from cairn.params import DistractorRatios, Ratios, SplitParams
from cairn.sides import DATABASE, QUERIES, embedding_locations, read_sides, trained_landmarks, training_photos
from cairn.splitting import SIDES, SPLIT_TABLE, SUSPECT, SplitError, check_sides, side_counts, split
from cairn.stage import CLEAN, RAW, SPLIT, StageError

Row = tuple[str, int | None]


def table_of(rows: list[Row]) -> pa.Table:
    schema = pa.schema([("image_id", pa.string()), ("landmark_id", pa.int64())])
    return pa.table([[i for i, _ in rows], [label for _, label in rows]], schema=schema)


def pairs_of(pairs: list[tuple[str, str]]) -> pa.Table:
    schema = pa.schema([("image_a", pa.string()), ("image_b", pa.string()), ("kind", pa.string())])
    return pa.table([[a for a, _ in pairs], [b for _, b in pairs], ["hash"] * len(pairs)], schema=schema)


def suspects_of(ids: Iterable[str] = ()) -> pa.Table:
    return pa.table({"image_id": pa.array(list(ids), pa.string())})


def params_of(
    ratios: tuple[float, float, float, float] = (0.6, 0.1, 0.1, 0.2),
    distractors: tuple[float, float, float] = (0.3, 0.2, 0.5),
    unseen: float = 0.0,
    suspects: Literal["aside", "keep"] = "aside",
) -> SplitParams:
    return SplitParams(
        ratios=Ratios(**dict(zip(SIDES, ratios, strict=True))),
        distractors=DistractorRatios(**dict(zip(("train", "validation", "test"), distractors, strict=True))),
        unseen_landmarks=unseen,
        suspects=suspects,
    )


def divided(
    rows: list[Row],
    pairs: list[tuple[str, str]] | None = None,
    params: SplitParams | None = None,
    seed: int = 1,
    suspects: Iterable[str] = (),
) -> dict[str, dict[str, object]]:
    table = split(table_of(rows), pairs_of(pairs or []), suspects_of(suspects), params or params_of(), seed)
    assert table.schema.equals(SPLIT_TABLE)
    return {row["image_id"]: row for row in table.to_pylist()}


def sides(found: dict[str, dict[str, object]], ids: list[str]) -> Counter[object]:
    return Counter(found[i]["side"] for i in ids)


def named(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{i:03d}" for i in range(count)]


@pytest.mark.parametrize(
    ("photos", "wanted"),
    [
        (1, {"train": 1}),
        (2, {"train": 1, "test": 1}),
        (10, {"train": 6, "validation": 1, "index": 1, "test": 2}),
        (200, {"train": 120, "validation": 20, "index": 20, "test": 40}),
    ],
)
def test_single_photos_meet_the_ratios(photos: int, wanted: dict[str, int]) -> None:
    ids = named("a", photos)
    assert sides(divided([(i, 7) for i in ids]), ids) == wanted


def test_equal_remainders_do_not_always_favour_the_same_side() -> None:
    rows: list[Row] = [(f"{landmark:03d}-{i}", landmark) for landmark in range(200) for i in range(4)]
    found = sides(divided(rows), [i for i, _ in rows])
    # Wanted per landmark: 2.4, 0.4, 0.4, 0.8. One photo is left after 2 and 1: a third of the time on each side.
    assert found["test"] == 200
    assert found["train"] + found["validation"] + found["index"] == 600
    assert 30 < found["validation"] < 110
    assert 30 < found["index"] < 110


def test_landmarks_too_small_for_all_sides_take_turns() -> None:
    """Of three photos one is always trained on and one tested; .3 are wanted for validation and .3 for the index."""
    rows: list[Row] = [(f"{landmark:04d}-{i}", landmark) for landmark in range(1000) for i in range(3)]
    found = sides(divided(rows), [i for i, _ in rows])
    assert found["train"] + found["validation"] + found["index"] + found["test"] == 3000
    assert found["test"] == 1000
    assert 100 < found["validation"] < 350
    assert 100 < found["index"] < 350


def test_a_split_without_a_landmark_to_test_with_is_refused_and_one_without_validation_is_told() -> None:
    def said(rows: list[Row], pairs: list[tuple[str, str]]) -> list[str]:
        table = split(table_of(rows), pairs_of(pairs), suspects_of(), params_of(), 1)
        return check_sides(side_counts(table_of(rows), suspects_of(), table))

    groups: list[Row] = [(f"{landmark}-{i}", landmark) for landmark in range(3) for i in range(4)]
    alike = [(f"{landmark}-0", f"{landmark}-{i}") for landmark in range(3) for i in range(1, 4)]
    with pytest.raises(SplitError, match=r"of 3 landmarks there are 3 groups of near duplicates, the largest of 4"):
        said(groups, alike)
    twos: list[Row] = [(f"{landmark}-{i}", landmark) for landmark in range(3) for i in range(2)]
    (only,) = said(twos, [])
    assert "no photo of a landmark is on the validation side" in only
    many: list[Row] = [(f"{landmark}-{i}", landmark) for landmark in range(3) for i in range(40)]
    assert said(many, []) == []
    (only,) = said(many, [("0-0", f"0-{i}") for i in range(1, 21)])
    assert "the largest of 21 photos, which stays on one side" in only
    others: list[Row] = [(f"x{i}", None) for i in range(5)]
    (only,) = said(many + others, [("x0", f"x{i}") for i in range(1, 5)])
    assert "no distractor is on the train side" in only


def test_landmark_of_one_group_is_wholly_trained_on() -> None:
    ids = named("a", 4)
    assert sides(divided([(i, 1) for i in ids], list(itertools.pairwise(ids))), ids) == {"train": 4}


@pytest.mark.parametrize("seed", range(5))
def test_the_smaller_of_two_groups_is_tested(seed: int) -> None:
    ids = named("a", 5)
    found = divided([(i, 1) for i in ids], [("a000", "a001"), ("a002", "a003"), ("a003", "a004")], seed=seed)
    assert [found[i]["side"] for i in ids] == ["test"] * 2 + ["train"] * 3


def test_groups_are_numbered_by_their_smallest_image_and_span_chains() -> None:
    found = divided([(i, 1) for i in "fedcba"], [("e", "b"), ("f", "e"), ("d", "c"), ("c", "c")])
    assert {i: row["group"] for i, row in found.items()} == {"a": 0, "b": 1, "c": 2, "d": 2, "e": 1, "f": 1}


def test_a_pair_said_many_times_still_joins() -> None:
    found = divided([("a", 1), ("b", 1)], [("a", "b")] * 512)
    assert found["a"]["group"] == found["b"]["group"]


def test_distractors_follow_their_own_ratios() -> None:
    ids = named("x", 100)
    found = divided([(i, None) for i in ids])
    assert sides(found, ids) == {"train": 30, "validation": 20, "test": 50}
    assert {row["seen"] for row in found.values()} == {None}


def test_unseen_landmarks_are_indexed_and_asked_about_and_never_trained_on() -> None:
    rows: list[Row] = [(f"{landmark}-{i:02d}", landmark) for landmark in range(10) for i in range(20)]
    found = divided(rows, params=params_of(unseen=0.3))
    unseen = {label for i, label in rows if found[i]["seen"] is False}
    assert len(unseen) == 3
    for landmark in range(10):
        mine = sides(found, [i for i, label in rows if label == landmark])
        if landmark in unseen:
            assert mine == {"validation": 2, "index": 14, "test": 4}
        else:
            assert mine == {"train": 12, "validation": 2, "index": 2, "test": 4}


def test_the_seed_decides() -> None:
    rows: list[Row] = [(i, 1) for i in named("a", 50)]
    assert divided(rows, seed=1) == divided(rows, seed=1)
    assert divided(rows, seed=1) != divided(rows, seed=2)


def test_a_mixed_group_counts_under_its_commonest_landmark() -> None:
    # Landmark 2 has a photo in landmark 1's group of three; alone it is one group, so it is trained on.
    found = divided(
        [("a", 1), ("b", 1), ("c", 2), ("d", 1), ("e", 2)],
        [("a", "b"), ("b", "c")],
    )
    assert {i: row["side"] for i, row in found.items()} == {
        "a": "train",
        "b": "train",
        "c": "train",
        "d": "test",
        "e": "train",
    }


def test_the_group_holding_all_of_another_landmark_is_trained_on() -> None:
    # Landmark 2 lives in the smaller group of landmark 1, which would be tested.
    found = divided([(i, 1) for i in "abcdefg"] + [("x", 2)], [(i, "b") for i in "acde"] + [("f", "g"), ("g", "x")])
    assert [found[i]["side"] for i in "fgx"] == ["train"] * 3
    assert [found[i]["side"] for i in "abcde"] == ["test"] * 5


def test_nothing_to_split() -> None:
    table = split(table_of([]), pairs_of([]), suspects_of(), params_of(), 1)
    assert table.num_rows == 0
    assert table.schema.equals(SPLIT_TABLE)
    assert side_counts(table_of([]), suspects_of(), table)["largest_group"] == 0


def test_counts_tell_what_is_where() -> None:
    ids = named("a", 10)
    images = table_of([(i, 1) for i in ids] + [("b", 2), ("x", None), ("y", None)])
    suspects = suspects_of([*ids[:5], "b"])
    table = split(images, pairs_of([("x", "y")]), suspects, params_of(distractors=(0, 0, 1)), 1)
    counts = side_counts(images, suspects, table)
    assert json.loads(json.dumps(counts)) == counts
    assert counts == {
        "groups": 12,
        "largest_group": 2,
        "landmarks": 2,
        "unseen_landmarks": 0,
        "sides": {
            "train": {"images": 5, "landmarks": 2, "distractors": 0},
            "validation": {"images": 1, "landmarks": 1, "distractors": 0},
            "index": {"images": 1, "landmarks": 1, "distractors": 0},
            "test": {"images": 4, "landmarks": 1, "distractors": 2},
            "suspect": {"images": 2, "landmarks": 1, "distractors": 0},
        },
        "suspects": {"set_aside": 2, "left_on_train_or_index": 1, "left_on_validation_or_test": 3},  # b is alone
    }


def test_counts_of_another_split_are_refused() -> None:
    table = split(table_of([("a", 1)]), pairs_of([]), suspects_of(), params_of(), 1)
    with pytest.raises(SplitError, match="different photos"):
        side_counts(table_of([("b", 1)]), suspects_of(), table)


def test_an_image_that_comes_twice_is_named() -> None:
    with pytest.raises(SplitError, match="image id b comes twice"):
        divided([("b", 1), ("a", 1), ("b", 2)])


def test_a_pair_of_an_unknown_image_is_named() -> None:
    with pytest.raises(SplitError, match="image_b zz"):
        divided([("a", 1), ("b", 1)], [("a", "b"), ("a", "zz")])


def test_a_suspect_of_an_unknown_image_is_named() -> None:
    with pytest.raises(SplitError, match="suspects: image_id zz"):
        divided([("a", 1), ("b", 1)], suspects=["a", "zz"])


def test_suspects_leave_the_train_and_index_sides_and_stay_where_questions_are_asked() -> None:
    ids = named("a", 40)
    before = divided([(i, 1) for i in ids])
    after = divided([(i, 1) for i in ids], suspects=ids[:20])
    for i in ids:
        moved = i in ids[:20] and before[i]["side"] in ("train", "index")
        assert after[i] == {**before[i], "side": SUSPECT if moved else before[i]["side"]}
    assert sides(after, ids[:20])[SUSPECT] > 5


def test_a_landmark_of_suspects_only_is_still_trained_on() -> None:
    ids = named("a", 20)
    assert sides(divided([(i, 1) for i in ids], suspects=ids), ids) == {
        "train": 12,
        "validation": 2,
        SUSPECT: 2,  # of the index side: the landmark is known from the train side
        "test": 4,
    }


def test_a_landmark_that_is_only_indexed_keeps_photos_there() -> None:
    rows: list[Row] = [(i, 1) for i in named("a", 10)]
    params = params_of(unseen=1.0)
    found = divided(rows, params=params, suspects=named("a", 10))
    assert sides(found, named("a", 10)) == {"validation": 1, "index": 7, "test": 2}
    indexed = [i for i, row in divided(rows, params=params).items() if row["side"] == "index"]
    assert sides(divided(rows, params=params, suspects=indexed[1:]), indexed) == {"index": 1, SUSPECT: 6}


def test_train_distractors_that_show_a_landmark_are_set_aside_and_queries_keep_theirs() -> None:
    ids = named("x", 20)
    found = divided([(i, None) for i in ids])
    first = next(i for i in ids if found[i]["side"] == "train")
    after = divided([(i, None) for i in ids], suspects=[i for i in ids if i != first])
    assert sides(after, ids) == {"train": 1, SUSPECT: 5, "validation": 4, "test": 10}


def manifest_of(rows: list[Row]) -> pa.Table:
    """One after the other in one shard, a byte each."""
    table = table_of(rows)
    table = table.append_column("shard", pa.array(["a.tar"] * len(rows)))
    table = table.append_column("offset", pa.array(range(len(rows)), pa.int64()))
    table = table.append_column("size", pa.array([1] * len(rows), pa.int64()))
    table = table.append_column("source_name", table["image_id"])
    for name in ("author", "licence"):
        table = table.append_column(name, pa.nulls(len(rows), pa.string()))
    return table


def test_suspects_are_embedded_and_used_for_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [(f"{n:016x}", 1 + n % 2 if n < 40 else None) for n in range(50)]
    table = manifest_of(rows)
    for folder in (RAW, CLEAN):
        write_images(folder, table)
    write_table(SPLIT, split(table, pairs_of([]), suspects_of(i for i, _ in rows[::3]), params_of(), 1))

    read = read_sides()
    aside = np.flatnonzero(read.side == SUSPECT)
    assert len(aside) > 5
    used = [read.rows(*names, distractors=True) for names in (DATABASE, QUERIES)]
    assert sorted(np.concatenate([*used, aside])) == list(range(len(rows)))
    train, validation = training_photos(read)
    assert (
        len(train.locations) == (read.side == "train").sum() - (read.landmark_ids[read.side == "train"] == NONE).sum()
    )
    assert len(validation.locations) == (read.side == "validation").sum()
    places = embedding_locations(read)
    assert {places[row].root for row in aside} == {CLEAN}


# Landmarks 3 and 7 are trained on, 5 is only indexed.
BY_HAND: list[tuple[int | None, str]] = [
    (7, "train"),
    (3, "train"),
    (3, "train"),
    (None, "train"),
    (7, "validation"),
    (5, "validation"),
    (None, "validation"),
    (3, "validation"),
    (5, "index"),
    (3, "index"),
    (7, "test"),
    (None, "test"),
]


@pytest.fixture
def by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """The photos of BY_HAND as the stages leave them; raw has three more, which stand before them and were dropped."""
    monkeypatch.chdir(tmp_path)
    rows = [(f"{n:016x}", label) for n, (label, _) in enumerate(BY_HAND, start=3)]
    write_images(RAW, manifest_of([(f"{n:016x}", 1) for n in range(3)] + rows))
    write_images(CLEAN, manifest_of(rows))
    write_split([side for _, side in BY_HAND])
    return rows


def write_split(side_of: list[str]) -> None:
    """Of the first photos of BY_HAND."""
    count = range(len(side_of))
    columns = [[f"{n + 3:016x}" for n in count], side_of, list(count), [None] * len(side_of)]
    write_table(SPLIT, pa.table(columns, schema=SPLIT_TABLE))


def test_classes_are_numbered_landmarks_and_each_photo_is_read_where_it_belongs(by_hand: list[Row]) -> None:
    read = read_sides()
    assert trained_landmarks(read).tolist() == [3, 7]
    train, validation = training_photos(read)
    assert train.classes.tolist() == [1, 0, 0]
    assert list(train.locations) == [Location(CLEAN, "a.tar", row, 1) for row in (0, 1, 2)]
    assert validation.classes.tolist() == [1, -1, 0]  # nothing of a landmark that is not trained on
    assert list(validation.locations) == [Location(CLEAN, "a.tar", row, 1) for row in (4, 6, 7)]
    assert embedding_locations(read) == [
        Location(RAW, "a.tar", 3 + row, 1) if side in QUERIES else Location(CLEAN, "a.tar", row, 1)
        for row, (_, side) in enumerate(BY_HAND)
    ]


def test_sides_that_do_not_belong_to_the_photos_are_refused_with_the_way_out(by_hand: list[Row]) -> None:
    write_split(["test" if label == 3 else side for label, side in BY_HAND])
    with pytest.raises(StageError, match=r"1 landmark\(s\), at least 2 are needed"):
        training_photos(read_sides())
    write_images(RAW, manifest_of(by_hand[:-1]))
    with pytest.raises(StageError, match=r"photos that build/raw does not; run `dvc repro clean`"):
        embedding_locations(read_sides())
    write_split([side for _, side in BY_HAND[:-1]])
    with pytest.raises(StageError, match=r"name different photos; run `dvc repro split`"):
        read_sides()


def test_params_may_keep_suspects_where_they_are() -> None:
    rows: list[Row] = [(i, 1) for i in named("a", 30)]
    assert divided(rows, params=params_of(suspects="keep"), suspects=named("a", 15)) == divided(rows)


@st.composite
def datasets(draw: st.DrawFn, mixed: bool = True) -> tuple[list[Row], list[tuple[str, str]]]:
    sizes = draw(st.lists(st.integers(1, 25), min_size=1, max_size=6))
    labels: list[int | None] = [label - 2 for label, size in enumerate(sizes) for _ in range(size)]
    labels += [None] * draw(st.integers(0, 20))
    rows = [(f"{number:04d}", label) for number, label in enumerate(draw(st.permutations(labels)))]
    row = st.sampled_from(rows)
    joined = draw(st.lists(st.tuples(row, row), max_size=30))
    return rows, [(a[0], b[0]) for a, b in joined if mixed or a[1] == b[1]]


ratios = st.sampled_from([(0.6, 0.1, 0.1, 0.2), (0.4, 0.2, 0.2, 0.2), (0.5, 0.0, 0.3, 0.2), (0.8, 0.2, 0.0, 0.0)])
any_params = st.builds(
    params_of, ratios, st.sampled_from([(0.3, 0.2, 0.5), (0.0, 0.5, 0.5)]), st.sampled_from([0.0, 0.3, 1.0])
)
seeds = st.integers(0, 2**32 - 1)


@given(datasets(), any_params, seeds)
def test_what_holds_of_every_split(
    dataset: tuple[list[Row], list[tuple[str, str]]], params: SplitParams, seed: int
) -> None:
    rows, pairs = dataset
    found = divided(rows, pairs, params, seed)
    assert list(found) == sorted(i for i, _ in rows)
    side_of_group = defaultdict(set)
    for row in found.values():
        side_of_group[row["group"]].add(row["side"])
    assert all(len(of) == 1 for of in side_of_group.values())
    assert all(found[a]["group"] == found[b]["group"] for a, b in pairs)

    by_landmark = defaultdict(list)
    for i, label in rows:
        by_landmark[label].append(found[i])
    for distractor in by_landmark.pop(None, []):
        assert distractor["seen"] is None
        assert distractor["side"] != "index"
    for mine in by_landmark.values():
        on = {row["side"] for row in mine}
        (seen,) = {row["seen"] for row in mine}
        assert on & {"train"} if seen else on - {"validation"} == {"index", "test"}


@given(datasets(), any_params, seeds, st.data())
def test_suspects_do_not_change_the_draw_and_every_landmark_keeps_photos(
    dataset: tuple[list[Row], list[tuple[str, str]]], params: SplitParams, seed: int, data: st.DataObject
) -> None:
    rows, pairs = dataset
    doubted = data.draw(st.sets(st.sampled_from([i for i, _ in rows])))
    table = split(table_of(rows), pairs_of(pairs), suspects_of(doubted), params, seed)
    before, after = divided(rows, pairs, params, seed), {row["image_id"]: row for row in table.to_pylist()}
    moved = {i for i in before if after[i] != before[i]}
    assert moved <= doubted
    assert {before[i]["side"] for i in moved} <= {"train", "index"}
    assert all(after[i] == {**before[i], "side": SUSPECT} for i in moved)
    for label in {label for _, label in rows}:
        mine = [i for i, of in rows if of == label]
        for base in ("train", "index") if label is not None else ("train",):
            if base in (had := sides(before, mine)):
                assert sides(after, mine)[base] or (base == "index" and had["train"])
    counts = side_counts(table_of(rows), suspects_of(doubted), table)
    assert sum(side["images"] for side in counts["sides"].values()) == len(rows)
    assert sum(counts["suspects"].values()) == len(doubted)
    assert counts["suspects"]["set_aside"] == counts["sides"][SUSPECT]["images"] == len(moved)


@given(datasets(), any_params, seeds, st.randoms())
def test_the_order_of_rows_and_pairs_does_not_matter(
    dataset: tuple[list[Row], list[tuple[str, str]]], params: SplitParams, seed: int, random: object
) -> None:
    rows, pairs = dataset
    first = divided(rows, pairs, params, seed)
    shuffled, turned = list(rows), [(b, a) for a, b in pairs]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    random.shuffle(turned)  # type: ignore[attr-defined]
    assert divided(shuffled, turned, params, seed) == first


@given(datasets(mixed=False), seeds)
def test_each_side_is_within_a_group_of_what_is_wanted(
    dataset: tuple[list[Row], list[tuple[str, str]]], seed: int
) -> None:
    rows, pairs = dataset
    params = params_of()
    found = divided(rows, pairs, params, seed)
    size = Counter(row["group"] for row in found.values())
    for label in {label for _, label in rows}:
        mine = [i for i, of in rows if of == label]
        largest = max(size[found[i]["group"]] for i in mine)
        wanted = (params.distractors if label is None else params.ratios).model_dump()
        on = sides(found, mine)
        for name in SIDES:
            assert abs(on[name] - wanted.get(name, 0) * len(mine)) <= largest


@given(datasets(mixed=False), seeds, st.integers(1, 12))
def test_another_landmark_leaves_the_others_where_they_were(
    dataset: tuple[list[Row], list[tuple[str, str]]], seed: int, photos: int
) -> None:
    rows, pairs = dataset
    before = divided(rows, pairs, seed=seed)
    after = divided(rows + [(f"{i:03d}x", 1_000_000) for i in range(photos)], pairs, seed=seed)
    assert {i: after[i]["side"] for i in before} == {i: row["side"] for i, row in before.items()}


@given(seeds, st.integers(2, 40), st.sampled_from([0.1, 0.25, 0.5]))
def test_another_landmark_changes_who_is_unseen_for_one_other_at_most(seed: int, landmarks: int, share: float) -> None:
    def unseen(count: int) -> set[int]:
        rows: list[Row] = [(f"{label}-{i}", label) for label in range(count) for i in range(3)]
        found = divided(rows, params=params_of(unseen=share), seed=seed)
        return {label for i, label in rows if found[i]["seen"] is False}

    before, after = unseen(landmarks), unseen(landmarks + 1)
    assert len(before) == round(share * landmarks)
    assert len((before ^ after) - {landmarks}) <= 1
