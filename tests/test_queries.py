"""Asking an index about a side's queries, on a made world of unit vectors: eight landmarks, two never trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cairn.evaluation import Judged, threshold_of
from cairn.manifest import NONE
from cairn.params import Params, load_params
from cairn.queries import (
    NEAREST,
    Embedded,
    Gallery,
    ask,
    asked_as_served,
    at_most,
    baseline,
    by_training,
    calibrated,
    calibration_report,
    drawn,
    gallery_of,
    in_gallery,
    validation_figures,
)
from cairn.retrieval.calibration import KINDS, Kind
from cairn.retrieval.neighbours import Neighbours
from cairn.retrieval.rerankers import Step
from cairn.retrieval.rerankers.base import Context
from cairn.retrieval.rerankers.boosted import BoostedParams
from cairn.retrieval.rerankers.distractor_penalty import DistractorPenaltyParams
from cairn.retrieval.rerankers.knn_vote import KnnVoteParams
from cairn.retrieval.rerankers.local_features import LocalFeaturesParams
from cairn.retrieval.rerankers.superglobal import SuperGlobalParams
from cairn.retrieval.vectors import Vectors
from cairn.sides import DATABASE, Sides

ROOT = Path(__file__).parents[1]
LANDMARKS, UNSEEN = 8, (6, 7)
# Photos a landmark on each side; landmarks never trained on have theirs on index and test.
SEEN_SIDES = ["train"] * 12 + ["validation"] * 4 + ["index"] * 3 + ["test"] * 6
UNSEEN_SIDES = ["index"] * 15 + ["test"] * 6
OTHERS = ["train"] * 20 + ["validation"] * 10 + ["test"] * 15


@pytest.fixture(scope="module")
def photos() -> Embedded:
    rng = np.random.default_rng(4)
    centres = rng.normal(size=(LANDMARKS, 16))
    side, shown, vectors = [], [], []
    for landmark in range(LANDMARKS):
        here = UNSEEN_SIDES if landmark in UNSEEN else SEEN_SIDES
        side += here
        shown += [landmark] * len(here)
        vectors.append(centres[landmark] + 1.3 * rng.normal(size=(len(here), 16)))
    side += OTHERS
    shown += [NONE] * len(OTHERS)
    vectors.append(rng.normal(size=(len(OTHERS), 16)))
    units = np.concatenate(vectors)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    images = pa.table({"image_id": [f"{number:016x}" for number in range(len(side))]})
    return Embedded(Sides(images, np.array(side), np.array(shown)), units.astype(np.float32))


@pytest.fixture(scope="module")
def everything(photos: Embedded, params: Params, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gallery]:
    with gallery_of(photos, photos.sides.rows(*DATABASE), params, tmp_path_factory.mktemp("keep")) as gallery:
        yield gallery


@pytest.fixture(scope="module")
def params() -> Params:
    read = load_params(ROOT / "params.yaml")
    return read.model_copy(update={"evaluate": read.evaluate.model_copy(update={"at_most": (1, 100), "draws": 3})})


def test_a_draw_has_so_many_of_each_landmark_and_no_more(photos: Embedded) -> None:
    every = photos.sides.rows(*DATABASE)
    rows = drawn(photos.sides, 5, (1, 5, 0))
    assert np.isin(rows, every).all()
    assert (np.diff(rows) > 0).all()
    assert np.bincount(photos.sides.landmark_ids[rows]).tolist() == [5] * LANDMARKS
    assert np.array_equal(rows, drawn(photos.sides, 5, (1, 5, 0)))
    assert not np.array_equal(rows, drawn(photos.sides, 5, (1, 5, 1)))
    assert np.array_equal(drawn(photos.sides, 100, (1, 5, 1)), every)


def test_every_photo_is_drawn_as_often_as_another(photos: Embedded) -> None:
    """Of 15 photos each draw takes 5: in 600 draws each comes 200 times, with a deviation of 11.5."""
    times = np.bincount(np.concatenate([drawn(photos.sides, 5, (seed,)) for seed in range(600)]))
    assert times[photos.sides.rows(*DATABASE)].min() > 200 - 5 * 11.5
    assert times[photos.sides.rows(*DATABASE)].max() < 200 + 5 * 11.5


def test_fewer_photos_are_the_mean_over_draws(photos: Embedded, params: Params, tmp_path: Path) -> None:
    got = at_most(photos, (NEAREST,), params, Context(), tmp_path)
    sides, vectors = photos.sides, photos.vectors
    queries = sides.rows("test")
    shares, unseen = [], []
    for draw in range(3):
        rows = drawn(sides, 1, (params.seed, 1, draw))
        nearest = sides.landmark_ids[rows[(vectors[queries] @ vectors[rows].T).argmax(axis=1)]]
        right = nearest == sides.landmark_ids[queries]
        shares.append(right.mean())
        unseen.append(right[np.isin(sides.landmark_ids[queries], UNSEEN)].mean())
    assert got["1"]["accuracy"] == pytest.approx(np.mean(shares))
    assert got["1"]["accuracy_of_unseen_landmarks"] == pytest.approx(np.mean(unseen))
    assert 0 < got["1"]["accuracy"] < got["100"]["accuracy"] < 1
    assert got["100"]["accuracy"] == pytest.approx(baseline(photos, params, tmp_path)["accuracy"])


def test_trained_and_unseen_landmarks_make_up_the_whole(photos: Embedded, params: Params, everything: Gallery) -> None:
    asked = ask(photos, everything, (NEAREST,), params, Context())
    parts = by_training(photos.sides, asked.test)
    whole = asked.test.right.sum() / asked.test.landmark_queries
    shares = [parts[f"accuracy_of_{kind}_landmarks"] for kind in ("trained", "unseen")]
    assert np.average(shares, weights=[6 * (LANDMARKS - 2), 6 * 2]) == pytest.approx(whole)
    seen = asked.test.only(~np.isin(asked.test.true, UNSEEN))
    assert by_training(photos.sides, seen) == {}
    assert set(in_gallery(photos.sides, photos.sides.rows(*DATABASE), asked.test).tolist()) == {15, 0}


def test_the_context_knows_the_train_sides_distractors_and_no_others(
    photos: Embedded, params: Params, everything: Gallery
) -> None:
    steps = (NEAREST, DistractorPenaltyParams(kind="query_side"))
    asked = ask(photos, everything, steps, params, Context())
    rows = photos.sides.rows("train", landmarks=False, distractors=True)
    assert len(rows) == 20
    assert asked.context.distractors is not None
    assert np.array_equal(asked.context.distractors, photos.vectors[rows])
    assert ask(photos, everything, (NEAREST,), params, Context()).context.distractors is None


def test_prototypes_stand_for_landmarks_that_the_index_knows(
    photos: Embedded, params: Params, everything: Gallery
) -> None:
    """With a weight that outdoes all neighbours, the vote is the nearest class mean."""
    step = KnnVoteParams(top=1, power=1, prototype_weight=1000, prototype_within=1)
    asked = ask(photos, everything, (step,), params, Context())
    shown = photos.sides.landmark_ids[everything.rows]
    means = np.stack([photos.vectors[everything.rows[shown == n]].mean(axis=0) for n in range(LANDMARKS)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    queries = photos.vectors[photos.sides.rows("test", distractors=True)]
    assert np.array_equal(asked.test.landmark_ids, (queries @ means.T).argmax(axis=1))


STEPS = (KnnVoteParams(top=3, power=8, prototype_weight=4),)
LEARNT = (BoostedParams(rounds=5, min_leaf=2), DistractorPenaltyParams(kind="query_side"))


@pytest.mark.parametrize("steps", [STEPS, LEARNT, (SuperGlobalParams(top=10), NEAREST)])
def test_queries_asked_in_parts_are_answered_alike(
    photos: Embedded, params: Params, everything: Gallery, steps: tuple[Step, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ask(photos, everything, steps, params, Context())
    monkeypatch.setattr("cairn.queries.QUERIES", 7)
    parts = ask(photos, everything, steps, params, Context())
    assert parts.rule.steps == whole.rule.steps
    assert parts.rule.threshold == pytest.approx(whole.rule.threshold, abs=2e-6)
    for got, wanted in ((parts.validation, whole.validation), (parts.test, whole.test)):
        assert np.array_equal(got.image_ids, wanted.image_ids)
        assert np.array_equal(got.true, wanted.true)
        assert np.array_equal(got.landmark_ids, wanted.landmark_ids)
        assert np.array_equal(got.found.image_ids, wanted.found.image_ids)
        np.testing.assert_allclose(got.scores, wanted.scores, rtol=1e-5)


@pytest.mark.parametrize("steps", [(NEAREST,), LEARNT])
def test_what_the_test_photos_show_changes_nothing_that_is_fitted(
    photos: Embedded, params: Params, everything: Gallery, steps: tuple[Step, ...]
) -> None:
    sides = photos.sides
    shown = np.where(sides.side == "test", 0, sides.landmark_ids)
    wanted = ask(photos, everything, steps, params, Context())
    got = ask(Embedded(Sides(sides.images, sides.side, shown), photos.vectors), everything, steps, params, Context())
    assert set(got.test.true.tolist()) == {0}
    assert got.rule == wanted.rule
    assert got.context.boosted_model == wanted.context.boosted_model
    assert np.array_equal(got.test.scores, wanted.test.scores)


@pytest.mark.parametrize("steps", [(NEAREST,), LEARNT])
@pytest.mark.parametrize("kind", KINDS)
def test_the_rule_is_that_of_the_validation_side(
    photos: Embedded, params: Params, everything: Gallery, steps: tuple[Step, ...], kind: Kind
) -> None:
    params = params.model_copy(update={"evaluate": params.evaluate.model_copy(update={"calibration": kind})})
    asked = ask(photos, everything, steps, params, Context())
    rows = photos.sides.rows("validation", distractors=True)
    assert np.array_equal(asked.validation.true, photos.sides.landmark_ids[rows])
    assert asked.rule.threshold == threshold_of(asked.validation, params.evaluate.target_precision)
    assert asked.rule.calibration is not None
    assert asked.rule.calibration.kind == kind
    assert asked.rule.calibration == calibrated(asked.validation, params) != calibrated(asked.test, params)


def test_vectors_on_disk_are_answered_as_those_in_memory(
    photos: Embedded, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gallery too large for exact search is made in parts from the shards, here of photos kept as float16."""
    halves = np.array_split(photos.vectors[np.arange(len(photos.sides.side))].astype(np.float16), 2)
    for number, half in enumerate(halves):
        np.save(tmp_path / f"{number}.npy", half)
    stored = Vectors([tmp_path / "0.npy", tmp_path / "1.npy"])
    rows = photos.sides.rows(*DATABASE)
    monkeypatch.setattr("cairn.queries.EXACT_UP_TO", 50)
    monkeypatch.setattr("cairn.queries.choose_type", lambda rows, dimensions: "IVF4,PQ8x4fsr,Refine(SQfp16)")
    whole = Embedded(photos.sides, stored)
    in_memory = Embedded(photos.sides, stored[np.arange(len(stored))])
    with gallery_of(whole, rows, params, tmp_path / "keep") as large:
        got = ask(whole, large, STEPS, params, Context()).test
        assert len(list((tmp_path / "keep").iterdir())) == 1
    monkeypatch.setattr("cairn.queries.EXACT_UP_TO", 1000)
    with gallery_of(in_memory, rows, params, tmp_path / "keep") as small:
        wanted = ask(in_memory, small, STEPS, params, Context()).test
    assert (got.landmark_ids == wanted.landmark_ids).mean() > 0.95
    assert (got.found.image_ids[:, 0] == wanted.found.image_ids[:, 0]).mean() > 0.95
    assert list((tmp_path / "keep").iterdir()) == []


def test_distractors_alone_calibrate_nothing(params: Params) -> None:
    def judged(true: list[int]) -> Judged:
        ids, none = (
            np.arange(len(true)),
            Neighbours(*(np.zeros((len(true), 0), kind) for kind in (np.int64, np.int64, np.float32))),
        )
        return Judged(ids, np.array(true), np.full(len(true), 3), np.linspace(0, 1, len(true), dtype=np.float32), none)

    assert calibrated(judged([NONE] * 80), params) is None
    assert calibrated(judged([NONE] * 79 + [3]), params) is not None


def test_the_server_is_given_a_rule_without_what_it_cannot_run(
    photos: Embedded, params: Params, everything: Gallery
) -> None:
    served = ask(photos, everything, STEPS, params, Context())
    assert asked_as_served(photos, everything, served, params, Context()) is served
    local = replace(served, rule=served.rule.model_copy(update={"steps": (LocalFeaturesParams(), *STEPS)}))
    got = asked_as_served(photos, everything, local, params, Context())
    assert got.rule == served.rule
    assert np.array_equal(got.test.landmark_ids, served.test.landmark_ids)
    assert np.array_equal(got.test.scores, served.test.scores)


def test_parts_are_chosen_by_the_validation_side(photos: Embedded, params: Params, everything: Gallery) -> None:
    asked = ask(photos, everything, (NEAREST,), params, Context())
    sides, rows = photos.sides, photos.sides.rows("validation")
    database = sides.rows(*DATABASE)
    nearest = sides.landmark_ids[database[(photos.vectors[rows] @ photos.vectors[database].T).argmax(axis=1)]]
    got = validation_figures(sides, everything, asked)
    assert got["accuracy"] == pytest.approx((nearest == sides.landmark_ids[rows]).mean())
    assert (got["queries"], got["distractors"]) == (4 * (LANDMARKS - len(UNSEEN)), 10)
    others = asked.validation.only(asked.validation.true == NONE)
    assert validation_figures(sides, everything, replace(asked, validation=others)) == {}


def test_probabilities_are_measured_on_the_test_side(photos: Embedded, params: Params, everything: Gallery) -> None:
    asked = ask(photos, everything, (NEAREST,), params, Context())
    assert asked.probabilities is not None
    assert asked.rule.calibration is not None
    assert len(asked.probabilities) == len(asked.test.scores) > len(asked.validation.scores)
    got = calibration_report(asked)["calibration"]
    assert got["kind"] == asked.rule.calibration.kind
    assert got["brier_score"] == pytest.approx(np.mean((asked.probabilities - asked.test.right) ** 2))
    without = replace(asked, rule=asked.rule.model_copy(update={"calibration": None}))
    assert without.probabilities is None
    assert calibration_report(without) == {}
