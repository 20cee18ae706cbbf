"""Samplers: every photo has its turn, batches have the shape that was asked for, and one seed gives one order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.params import load_params
from cairn.training.samplers import SAMPLERS, ClassesByImages, EpochBatches, Shuffled, Subspaces, cluster

CLASSES = np.random.default_rng(0).permutation(np.repeat(np.arange(12), [1, 2, 3, 5, 8, 8, 8, 9, 10, 16, 20, 40]))
MEANS = np.random.default_rng(1).normal(size=(12, 5)).astype(np.float32)
ROUNDS = 25

MADE: dict[str, Callable[[int], EpochBatches]] = {
    "shuffled": lambda seed: Shuffled(len(CLASSES), 32, seed),
    "classes": lambda seed: ClassesByImages(CLASSES, 4, 8, seed),
    "subspaces": lambda seed: Subspaces(CLASSES, MEANS, 3, 3, 4, seed, ROUNDS),
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """On data this small, threads take longer to start than to work."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


def test_each_name_of_the_params_is_its_own_sampler() -> None:
    schedule = load_params(Path(__file__).parents[2] / "params.yaml").train.scratch
    how = schedule.model_copy(update={"sampler": schedule.sampler.model_copy(update={"classes": 4, "images": 4})})
    kinds = {name: type(make(CLASSES, MEANS, how, 1)) for name, make in SAMPLERS.items()}
    assert kinds == {"shuffled": Shuffled, "classes": ClassesByImages, "subspaces": Subspaces}


def listed(sampler: EpochBatches) -> list[list[int]]:
    return [batch.tolist() for batch in sampler.batches()]


def flat(batches: Iterable[Iterable[int]]) -> list[int]:
    return list(chain.from_iterable(batches))


def blobs(sizes: list[int]) -> np.ndarray:
    """Class means around as many right-angled directions as there are sizes, float32 [sum of sizes, sizes]."""
    noise = np.random.default_rng(0).normal(size=(sum(sizes), len(sizes)))
    return (np.repeat(np.eye(len(sizes)), sizes, axis=0) + 0.02 * noise).astype(np.float32)


@pytest.mark.parametrize("name", MADE)
def test_batches_depend_on_seed_and_epoch_alone(name: str) -> None:
    sampler, again = MADE[name](3), MADE[name](3)
    first = listed(sampler)
    assert listed(sampler) == first == listed(again)
    sampler.epoch = again.epoch = 1
    assert listed(sampler) == listed(again) != first
    assert listed(MADE[name](4)) != first


@pytest.mark.parametrize("name", MADE)
def test_there_are_as_many_batches_in_every_epoch(name: str) -> None:
    sampler, counts = MADE[name](0), set()
    for sampler.epoch in range(4):
        counts.add(len(sampler.batches()))
    assert len(counts) == 1


@pytest.mark.parametrize(("photos", "size", "wanted"), [(10, 4, [4, 4]), (8, 4, [4, 4]), (3, 4, [3])])
def test_shuffled_batches_hold_each_photo_once(photos: int, size: int, wanted: list[int]) -> None:
    batches = Shuffled(photos, size, seed=0).batches()
    assert [len(b) for b in batches] == wanted
    shown = flat(batches)
    assert len(set(shown)) == len(shown)
    assert set(shown) <= set(range(photos))


def test_shuffled_batches_follow_a_new_permutation_each_epoch() -> None:
    sampler = Shuffled(50, 8, seed=7)
    sampler.epoch = 2
    assert flat(sampler.batches()) == np.random.default_rng((7, 2)).permutation(50)[:48].tolist()


@settings(max_examples=60)
@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=15),
    st.integers(2, 15),
    st.integers(1, 9),
    st.integers(0, 2**32 - 1),
)
def test_batches_have_so_many_classes_and_so_many_photos_of_each(
    sizes: list[int], per_batch: int, images: int, seed: int
) -> None:
    per_batch = min(per_batch, len(sizes))
    classes = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    batches = listed(ClassesByImages(classes, per_batch, images, seed))
    for batch in batches:
        shown = Counter(classes[batch].tolist())
        assert set(shown.values()) == {images}
        assert len(shown) == per_batch
        for c in shown:  # as few repeats as the class allows
            repeats = Counter(at for at in batch if classes[at] == c)
            assert len(repeats) == min(images, sizes[c])
            assert max(repeats.values()) == -(-images // sizes[c])
    assert set(classes[flat(batches)].tolist()) == set(range(len(sizes)))
    turns = sum(-(-n // images) for n in sizes)
    assert len(batches) == -(-turns // per_batch)


def test_an_epoch_shows_about_every_photo_once() -> None:
    classes = np.repeat(np.arange(50), 16)
    shown = Counter(flat(ClassesByImages(classes, 10, 8, seed=0).batches()))
    assert set(shown) == set(range(800))
    assert set(shown.values()) == {1}
    shown = Counter(flat(MADE["classes"](0).batches()))
    assert set(shown) == set(range(len(CLASSES)))  # no class here is too large for the batches of an epoch
    assert len(CLASSES) <= sum(shown.values()) < len(CLASSES) + 8 * (12 + 4)


def test_photos_of_a_class_too_large_for_an_epoch_come_in_others() -> None:
    sampler = ClassesByImages(np.repeat([0, 1, 2], [60, 3, 2]), 3, 4, seed=0)
    seen: set[int] = set()
    for sampler.epoch in range(12):
        shown = set(flat(sampler.batches()))
        assert shown >= {60, 61, 62, 63, 64}
        assert len(shown) < 65
        seen |= shown
    assert len(seen) == 65


@pytest.mark.parametrize("make", [ClassesByImages, lambda c, p, k, s: Subspaces(c, MEANS, 2, p, k, s, ROUNDS)])
def test_too_few_classes_and_distractors_are_errors(make: Callable[..., EpochBatches]) -> None:
    with pytest.raises(ValueError, match="4 classes, and there are only 3"):
        make(np.array([0, 1, 2]), 4, 2, 0)
    with pytest.raises(ValueError, match="photo 1 has class -1"):
        make(np.array([0, -1, 2]), 2, 2, 0)


def test_a_class_without_a_mean_is_an_error() -> None:
    with pytest.raises(ValueError, match="class 12 has no row among 12"):
        Subspaces(np.array([0, 1, 12]), MEANS, 2, 2, 2, 0, ROUNDS)


def test_clusters_are_the_groups_that_are_there() -> None:
    sizes = [7, 5, 9]
    numbers = cluster(10 * blobs(sizes), 3, 4, seed=0, rounds=ROUNDS)
    groups = np.split(numbers, np.cumsum(sizes)[:-1])
    assert all(len(set(group.tolist())) == 1 for group in groups)
    assert {int(group[0]) for group in groups} == {0, 1, 2}


def test_each_batch_comes_from_one_cluster() -> None:
    classes = np.repeat(np.arange(21), 6)
    group = np.repeat([0, 1, 2], [7, 5, 9])
    batches = Subspaces(classes, blobs([7, 5, 9]), 3, 4, 3, seed=0, rounds=ROUNDS).batches()
    assert all(len(set(group[classes[b]].tolist())) == 1 for b in batches)
    assert set(flat(batches)) == set(range(len(classes)))
    assert len({int(group[classes[b[0]]]) for b in batches[: len(batches) // 2]}) > 1  # clusters are mixed over time


def test_a_cluster_that_cannot_fill_a_batch_joins_its_nearest() -> None:
    means = blobs([8, 3, 8])
    means[8:11, 2] += 0.5  # the small group leans to the third
    numbers = cluster(means, 3, 5, seed=0, rounds=ROUNDS)
    assert len(set(numbers[8:].tolist())) == 1
    assert set(numbers.tolist()) == {0, 1}


@settings(max_examples=40)
@given(st.integers(2, 30), st.integers(1, 30), st.integers(2, 12), st.integers(0, 2**32 - 1))
def test_every_class_is_used_however_small_the_clusters(count: int, clusters: int, per_batch: int, seed: int) -> None:
    per_batch = min(per_batch, count)
    rng = np.random.default_rng(seed)
    numbers = cluster(rng.normal(size=(count, 4)).astype(np.float32), clusters, per_batch, seed, ROUNDS)
    assert np.bincount(numbers).min() >= per_batch
    classes = np.repeat(np.arange(count), rng.integers(1, 6, count))
    means = rng.normal(size=(count, 4)).astype(np.float32)
    batches = listed(Subspaces(classes, means, clusters, per_batch, 2, seed, ROUNDS))
    assert set(classes[flat(batches)].tolist()) == set(range(count))
    assert all(len(set(classes[b].tolist())) == per_batch for b in batches)


def test_without_rounds_each_class_goes_to_the_nearest_of_the_random_first_ones() -> None:
    means = np.random.default_rng(3).normal(size=(12, 4)).astype(np.float32)
    units = means / np.linalg.norm(means, axis=1, keepdims=True)
    first = np.random.default_rng(8).choice(12, 3, replace=False)
    nearest = (units @ units[first].T).argmax(axis=1)
    got = cluster(means, 3, 1, seed=8, rounds=0)
    assert [set(np.flatnonzero(got == got[c])) for c in first] == [set(np.flatnonzero(nearest == n)) for n in range(3)]


def test_class_means_that_are_all_alike_or_nothing_are_one_cluster() -> None:
    assert set(cluster(np.ones((9, 4), np.float32), 3, 9, seed=0, rounds=ROUNDS).tolist()) == {0}
    assert set(cluster(np.zeros((9, 4), np.float32), 3, 2, seed=0, rounds=ROUNDS).tolist()) == {0}
