"""Which side a photo stands on: train, validation, index, test or suspect; by whole groups of duplicates, per landmark.

A group (photos joined by pairs, directly or through others) never crosses sides. Within a landmark each side first gets
its number of photos by largest remainders (Hamilton's method), or by a draw where there are too few for all sides; then
the groups, largest first, each go to the side that still lacks most. All chance comes from hashes of (seed, landmark
id), so a landmark's draw does not depend on others.

Photos whose label is doubted are drawn as all are. Only then those on the train and index sides are taken off: were
they dropped before, the queries would lose their hard and mislabelled photos too, and figures would flatter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cairn.manifest import by_image_id, whole
from cairn.params import SplitParams
from cairn.ranks import earlier_alike

SIDES = ("train", "validation", "index", "test")
TRAIN, VALIDATION, INDEX, TEST = range(len(SIDES))
SUSPECT = "suspect"  # instead of train or index: neither learnt from, nor searched, nor asked about
SPLIT_TABLE = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("side", pa.string(), nullable=False),
        pa.field("group", pa.int64(), nullable=False),
        pa.field("seen", pa.bool_()),  # the landmark was trained on; null: a distractor
    ]
)

LARGE_GROUP, MANY = 0.05, 20  # of the photos, and photos: so many alike bend the sides, and are hardly of one view
_CHOICE, _ORDER, _REMAINDER, _START = range(4)  # what a hash is drawn for

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class SplitError(ValueError):
    """Tables that cannot be split."""


@dataclass(frozen=True)
class Photos:
    """The photos in order of image id.

    ids: string [photos]
    landmarks: int64 [classes - 1], ascending; the last class stands for the distractors and has no landmark id
    classes: int64 [photos], 0..classes-1
    groups: int64 [photos], 0..groups-1
    """

    ids: pa.Array
    landmarks: Ints
    classes: Ints
    groups: Ints

    @property
    def distractors(self) -> int:
        """The class of the distractors."""
        return len(self.landmarks)


@dataclass(frozen=True)
class Groups:
    """The groups in order of their smallest image id, each under the class that owns it.

    size: int64 [groups], photos of any class
    owner: int64 [groups], the class with most photos; ties: the smallest landmark id, distractors last
    anchors: bool [groups], must go to train: some landmark that owns no group has its only sure photos here
    indexable: bool [groups], holds no distractor beside its owner's photos
    tangled: bool [classes], shares a group with another class
    """

    size: Ints
    owner: Ints
    anchors: Bools
    indexable: Bools
    tangled: Bools


@dataclass(frozen=True)
class Rules:
    """What each class wants.

    ratios: float64 [classes, sides], rows sum to 1
    base: int64 [classes], the side that must get a group, -1: none
    query: int64 [classes], the side that must get a group where there are two or more, -1: none
    """

    ratios: Floats
    base: Ints
    query: Ints


def split(images: pa.Table, pairs: pa.Table, suspects: pa.Table, params: SplitParams, seed: int) -> pa.Table:
    """The side of every photo: SPLIT_TABLE, sorted by image id, the same for any order of rows.

    images: image_id string, landmark_id int64 (null: a distractor)
    pairs: image_a, image_b string: photos that must not be divided
    suspects: image_id string: photos whose label is doubted
    seed: 0..2**64-1

    Per landmark, counted in photos, the ratios hold to about the size of its largest group, and:
    - every landmark that is not held out has photos on the train side; one with a single group is wholly there;
    - with two groups or more the smallest is on the test side (unless no photo is wanted there);
    - `params.unseen_landmarks` of all landmarks, drawn from those with two groups or more that share none with another
      class, are held out: they have photos on the index and test sides, and on the validation side, for the answer's
      threshold. One landmark more in the manifest changes the choice for at most one other;
    - distractors are never on the index side;
    - with params.suspects `aside` the suspects among the train and index photos are on the side SUSPECT instead, unless
      their landmark (or the distractors) would have no photo left on the train side, or on the index side where it has
      none to train on.
    A group of several classes counts under the one most of its photos have.

    Raises SplitError if an image id comes twice, or a pair or a suspect is a photo that is not in `images`.
    """
    photos = _photos(images, pairs)
    groups = _groups(photos)
    rules = _rules(photos, groups, params, seed)
    side = _allocate(groups, rules, _class_hashes(photos, seed))[photos.groups]
    trained = np.zeros(photos.distractors + 1, bool)
    trained[photos.classes[side == TRAIN]] = True
    aside = _aside(photos, side, _rows(suspects, "image_id", photos.ids, "suspects"))
    if params.suspects == "aside":
        side = np.where(aside, len(SIDES), side)
    names = pa.DictionaryArray.from_arrays(pa.array(side, pa.int8()), pa.array([*SIDES, SUSPECT])).cast(pa.string())
    seen = pa.array(trained[photos.classes], mask=photos.classes == photos.distractors)
    return pa.table([photos.ids, names, pa.array(photos.groups), seen], schema=SPLIT_TABLE)


def _aside(photos: Photos, side: Ints, suspects: Ints) -> Bools:
    """The suspects to take off the train and index sides, bool [photos]; `suspects` are rows."""
    suspect = np.zeros(len(side), bool)
    suspect[suspects] = True
    classes = photos.distractors + 1
    trained = np.bincount(photos.classes[side == TRAIN], minlength=classes) > 0
    needed = np.where(trained[photos.classes], side == TRAIN, side == INDEX)  # without any, a landmark is unknown
    safe = np.bincount(photos.classes[needed & ~suspect], minlength=classes) > 0
    aside: Bools = suspect & np.isin(side, [TRAIN, INDEX]) & (safe[photos.classes] | ~needed)
    return aside


def side_counts(images: pa.Table, suspects: pa.Table, table: pa.Table) -> dict[str, Any]:
    """Facts about a split of `images` for a report: groups, landmarks and what each side holds, as plain ints.

    Of suspects, those left on the train or index side are all that their landmark has there, or params say `keep`.

    Raises SplitError if `table` and `images` name different photos.
    """
    images, table = by_image_id(images.select(["image_id", "landmark_id"])), by_image_id(table)
    if not images["image_id"].equals(table["image_id"]):
        raise SplitError("the manifest and its split name different photos; run `dvc repro split`")
    landmark = images["landmark_id"]
    held_out = pc.equal(table["seen"], False)
    sides = {name: landmark.filter(pc.equal(table["side"], name)) for name in (*SIDES, SUSPECT)}
    doubted = table["side"].filter(pc.is_in(table["image_id"], value_set=whole(suspects["image_id"])))
    return {
        "groups": _distinct(table["group"]),
        "largest_group": pc.max(pc.value_counts(table["group"]).field("counts")).as_py() or 0,
        "landmarks": _distinct(landmark),
        "unseen_landmarks": _distinct(landmark.filter(held_out)),
        "sides": {
            name: {"images": len(shown), "landmarks": _distinct(shown), "distractors": shown.null_count}
            for name, shown in sides.items()
        },
        "suspects": {
            "set_aside": _count(doubted, SUSPECT),
            "left_on_train_or_index": _count(doubted, "train", "index"),
            "left_on_validation_or_test": _count(doubted, "validation", "test"),
        },
    }


def check_sides(counts: dict[str, Any]) -> list[str]:
    """What the `side_counts` of a split make impossible later, a sentence each.

    Raises SplitError if nothing is left to test with: no photo of a landmark is on the test side.
    """
    photos = {name: side["images"] - side["distractors"] for name, side in counts["sides"].items()}
    groups = f"{counts['groups']} groups of near duplicates, the largest of {counts['largest_group']} photos"
    if not photos["test"]:
        raise SplitError(
            f"no photo of a landmark is on the test side: of {counts['landmarks']} landmarks there are {groups}, and a "
            "landmark of one group is wholly trained on; bring more photos, give split.ratios.test more, or join fewer "
            "photos (clean.near_duplicates.group_bits lower, group_cosine higher), and say `dvc repro`"
        )
    said = []
    if counts["largest_group"] > max(LARGE_GROUP * sum(side["images"] for side in counts["sides"].values()), MANY):
        said.append(
            f"photos are {groups}, which stays on one side: what is alike joins up through others; "
            "raise clean.near_duplicates.group_cosine or lower group_bits if they are not one view"
        )
    if not photos["validation"]:
        said.append(
            f"no photo of a landmark is on the validation side ({groups}): scores are not calibrated, every photo gets "
            "an answer, and training keeps its last epoch; give split.ratios.validation more"
        )
    distractors = {name: side["distractors"] for name, side in counts["sides"].items()}
    if sum(distractors.values()) and not distractors["train"]:
        said.append(f"no distractor is on the train side ({groups}): distractor_penalty and boosted will have none")
    return said


def _count(side: pa.ChunkedArray, *names: str) -> int:
    return int(pc.sum(pc.is_in(side, value_set=pa.array(names))).as_py() or 0)


def _distinct(column: pa.ChunkedArray) -> int:
    return int(pc.count_distinct(column, mode="only_valid").as_py())


def _photos(images: pa.Table, pairs: pa.Table) -> Photos:
    images = by_image_id(images.select(["image_id", "landmark_id"])).combine_chunks()
    ids = whole(images["image_id"].cast(pa.string()))
    twice = pc.index(pc.equal(ids[1:], ids[:-1]), True).as_py()
    if twice >= 0:
        raise SplitError(f"image id {ids[twice]} comes twice; ids must be unique")
    distractor = pc.is_null(images["landmark_id"]).to_numpy()
    landmark = pc.fill_null(images["landmark_id"].cast(pa.int64()), 0).to_numpy()
    landmarks, codes = np.unique(landmark[~distractor], return_inverse=True)
    classes = np.full(len(ids), len(landmarks), np.int64)
    classes[~distractor] = codes
    a, b = (_rows(pairs, name, ids, "pairs") for name in ("image_a", "image_b"))
    return Photos(ids, landmarks, classes, _components(len(ids), a, b))


def _rows(table: pa.Table, name: str, ids: pa.Array, what: str) -> Ints:
    named = table[name].cast(pa.string())
    rows = pc.index_in(named, value_set=ids)
    if rows.null_count:
        unknown = named.filter(pc.is_null(rows))[0]
        raise SplitError(f"{what}: {name} {unknown} is not an image of the manifest; run `dvc repro clean`")
    return np.asarray(rows.to_numpy(), np.int64)


def _components(count: int, a: Ints, b: Ints) -> Ints:
    """Numbers of the connected components, int64 [count], by their smallest row."""
    graph = coo_array((np.ones(len(a)), (a, b)), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    return number[inverse]


def _groups(photos: Photos) -> Groups:
    classes = photos.distractors + 1
    held, count = np.unique(photos.groups * classes + photos.classes, return_counts=True)
    group, held = np.divmod(held, classes)  # a row per group and class in it
    total = int(group[-1]) + 1 if len(group) else 0
    size = np.bincount(photos.groups, minlength=total)
    owner = held[_first_of(group, np.lexsort((held, -count, group)))]
    mixed = np.bincount(group, minlength=total) > 1
    tangled = np.zeros(classes, bool)
    tangled[held[mixed[group]]] = True

    homeless = np.bincount(owner, minlength=classes) == 0
    homeless[photos.distractors] = False
    rows = np.flatnonzero(homeless[held])
    best = rows[_first_of(held[rows], np.lexsort((group[rows], -count[rows], held[rows])))]
    anchors = np.zeros(total, bool)
    anchors[group[best]] = True

    indexable = np.ones(total, bool)
    indexable[group[held == photos.distractors]] = False
    return Groups(size, owner, anchors, indexable, tangled)


def _first_of(keys: Ints, order: Ints) -> Ints:
    """Of `order`, which sorts by keys before all else, the entries where a new key begins."""
    found = keys[order]
    return order[np.flatnonzero(np.diff(found, prepend=-1))]


def _rules(photos: Photos, groups: Groups, params: SplitParams, seed: int) -> Rules:
    classes = photos.distractors + 1
    wanted = params.ratios
    ratios = np.tile([wanted.train, wanted.validation, wanted.index, wanted.test], (classes, 1))
    base = np.full(classes, TRAIN)
    held_out = _held_out(photos, groups, params.unseen_landmarks, seed)
    ratios[held_out] = [0, wanted.validation, wanted.train + wanted.index, wanted.test]
    base[held_out] = INDEX
    query = np.where((ratios[:, TEST] > 0) | held_out, TEST, -1)
    ratios[-1] = [params.distractors.train, params.distractors.validation, 0, params.distractors.test]
    base[-1] = query[-1] = -1
    return Rules(ratios / ratios.sum(axis=1, keepdims=True), base, query)


def _held_out(photos: Photos, groups: Groups, share: float, seed: int) -> Bools:
    """Classes kept out of training, bool [classes]: those that draw lowest."""
    owned = np.bincount(groups.owner, minlength=photos.distractors + 1)[:-1]
    able = np.flatnonzero((owned >= 2) & ~groups.tangled[:-1])
    draws = _hash(_class_hashes(photos, seed)[able], _CHOICE)
    chosen = able[np.argsort(draws, kind="stable")[: round(share * photos.distractors)]]
    held_out = np.zeros(photos.distractors + 1, bool)
    held_out[chosen] = True
    return held_out


def _allocate(groups: Groups, rules: Rules, hashes: NDArray[np.uint64]) -> Ints:
    """The side of each group, int64 [groups].

    First those that must be on a side, then groups of several photos, then single photos in bulk.
    """
    classes = len(rules.base)
    order, rank = _line_up(groups, hashes)
    owner, size, anchors = groups.owner[order], groups.size[order], groups.anchors[order]
    members = np.bincount(owner, minlength=classes)
    side = np.full(len(order), -1)
    last = (rank == members[owner] - 1) & (rank > 0)
    side = np.where(last, rules.query[owner], side)
    side = np.where(rank == 0, rules.base[owner], side)
    side = np.where(anchors, TRAIN, side)

    lack = _wanted(rules.ratios, np.bincount(owner, size, classes).astype(np.int64), hashes).astype(np.float64)
    lack[rules.ratios == 0] = -np.inf
    placed = np.flatnonzero(side >= 0)
    np.subtract.at(lack, (owner[placed], side[placed]), size[placed])

    several = np.flatnonzero((side < 0) & (size > 1))
    side[several] = _place_largest_first(owner[several], size[several], groups.indexable[order][several], lack)
    single = np.flatnonzero(side < 0)
    side[single] = _place_singles(owner[single], lack, hashes)
    result = np.empty_like(side)
    result[order] = side
    return result


def _line_up(groups: Groups, hashes: NDArray[np.uint64]) -> tuple[Ints, Ints]:
    """Groups by owner, anchors first, then the larger first, equal ones as drawn; and each one's rank in its class."""
    draws = _hash(hashes[groups.owner], _ORDER, earlier_alike(groups.owner))
    order = np.lexsort((draws, -groups.size, ~groups.anchors, groups.owner))
    return order, earlier_alike(groups.owner[order])


def _place_largest_first(owner: Ints, size: Ints, indexable: Bools, lack: Floats) -> Ints:
    """Each group to the side its class lacks most of; `lack` is brought up to date.

    One round places one group of every class that has any left: rounds are as many as the groups of one class.
    """
    side = np.empty(len(owner), np.int64)
    ranks = earlier_alike(owner)
    rounds = np.argsort(ranks, kind="stable")
    ends = np.cumsum(np.bincount(ranks))
    for now in np.split(rounds, ends[:-1]):
        lacking = lack[owner[now]]
        lacking[~indexable[now], INDEX] = -np.inf
        side[now] = lacking.argmax(axis=1)
        lack[owner[now], side[now]] -= size[now]
    return side


def _place_singles(owner: Ints, lack: Floats, hashes: NDArray[np.uint64]) -> Ints:
    """Groups of one photo, as they stand in line, to the sides that lack any, in proportion to what they lack."""
    wanted = np.maximum(lack, 0)
    total = wanted.sum(axis=1, keepdims=True)
    wanted = np.divide(wanted, total, out=np.zeros_like(wanted), where=total > 0)
    ends = _shares(wanted, np.bincount(owner, minlength=len(lack)), hashes).cumsum(axis=1)
    return np.asarray((earlier_alike(owner)[:, None] >= ends[owner]).sum(axis=1))


def _wanted(ratios: Floats, totals: Ints, hashes: NDArray[np.uint64]) -> Ints:
    """`_shares`; but a class that has too few photos for each of its sides gives each one more than its whole number
    with the remainder as probability (systematic sampling, Madow 1949).

    By largest remainders no landmark of three photos would ever be on the validation side, which answers are chosen by.
    """
    shares = _shares(ratios, totals, hashes)
    exact = np.round(ratios * totals[:, None], 9)
    starts = (_hash(hashes, _START) >> np.uint64(11)) * 2.0**-53  # in [0, 1)
    ends = np.floor(np.round((exact - np.floor(exact)).cumsum(axis=1), 9) + starts[:, None])
    drawn = np.floor(exact) + np.diff(ends, axis=1, prepend=0)
    small = ((shares == 0) & (ratios > 0)).any(axis=1, keepdims=True)
    return np.where(small, drawn, shares).astype(np.int64)


def _shares(ratios: Floats, totals: Ints, hashes: NDArray[np.uint64]) -> Ints:
    """Whole numbers in the given ratios that sum to the totals, int64 [classes, sides], by largest remainders.

    Equal remainders are served as drawn, so that no side loses in all small classes.
    """
    exact = np.round(ratios * totals[:, None], 9)  # 0.1 * 30 is 3
    whole = np.floor(exact)
    draws = _hash(hashes[:, None], _REMAINDER, np.arange(len(SIDES))[None, :])
    remainder = np.round(exact - whole, 9) + draws / 2.0**64 * 5e-10
    place = np.argsort(np.argsort(-remainder, axis=1), axis=1)
    shares: NDArray[np.int64] = (whole + (place < (totals - whole.sum(axis=1))[:, None])).astype(np.int64)
    return shares


def _class_hashes(photos: Photos, seed: int) -> NDArray[np.uint64]:
    """A seed per class, uint64 [classes], from the landmark id alone."""
    start = np.full(photos.distractors + 1, seed, np.uint64)
    is_landmark = np.append(np.ones(photos.distractors, np.int64), 0)
    return _hash(start, is_landmark, np.append(photos.landmarks, 0))


def _hash(state: NDArray[np.uint64], *parts: int | Ints) -> NDArray[np.uint64]:
    """A number as good as random per state and parts: the finaliser of SplitMix64 (Steele et al. 2014), chained."""
    for part in parts:
        state = state ^ np.asarray(part, np.int64).astype(np.uint64)
        state = state + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return state
