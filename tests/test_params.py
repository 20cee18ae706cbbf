"""The door of the params: what is in the project passes, what cannot be is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cairn.composing import compose
from cairn.params import ParamsError, load_params

ROOT = Path(__file__).parents[1]


def changed(tmp_path: Path, name: str, value: Any) -> Path:
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    block = content
    *path, last = name.split(".")
    for part in path:
        block = block[part]
    block[last] = value
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def test_params_yaml_is_what_conf_composes(tmp_path: Path) -> None:
    compose(ROOT, tmp_path / "params.yaml")
    assert (tmp_path / "params.yaml").read_text() == (ROOT / "params.yaml").read_text()


PRESETS = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("budget", ["own", "small"])
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_passes(tmp_path: Path, preset: str, budget: str) -> None:
    compose(ROOT, tmp_path / "params.yaml", [f"experiment={preset}", f"budget={budget}"])
    load_params(tmp_path / "params.yaml")


def test_a_given_budget_is_the_same_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAIRN_WEIGHTS", "/weights")
    budgets = set()
    for preset in PRESETS:
        compose(ROOT, tmp_path / "params.yaml", [f"experiment={preset}", "budget=given"])
        train = load_params(tmp_path / "params.yaml").train
        schedule, clean = train.schedule, load_params(tmp_path / "params.yaml").clean
        budgets.add((train.backbone, train.weights, train.joined, schedule.epochs, schedule.image_size, clean))
        assert (schedule.accumulate, schedule.batch_norm) == (1, "eval")
    assert len(budgets) == 1
    assert budgets.pop()[1] == "/weights/vit_tiny_patch16_224.fp16.safetensors"
    assert len(PRESETS) == 2 + 2 * 5


def test_the_duplicate_finder_follows_the_given_weights(tmp_path: Path) -> None:
    compose(ROOT, tmp_path / "params.yaml", ["train.weights=given.safetensors"])
    assert load_params(tmp_path / "params.yaml").clean.near_duplicates.weights == "given.safetensors"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("train.epoks", 3, "train.epoks = 3: no such param"),
        ("fetch.shard_mb", -1, "fetch.shard_mb = -1: Input should be greater than 0"),
        ("clean.max_aspect", "wide", "clean.max_aspect = 'wide'"),
        ("fetch.source", "web", "'synthetic', 'folder' or 'gldv2'"),
        ("split.ratios.test", 0.9, "train + validation + index + test must be 1, not 1.7"),
        ("split.distractors.test", 0.9, " train + validation + test must be 1, not 1.4"),
        ("fetch.gldv2.last_shard", -1, "fetch.gldv2.last_shard = -1"),
        ("fetch.folder.landmarks", "", "fetch.folder.landmarks = '': Value error, must be a folder, or null"),
        ("fetch.folder.distractors", "", "fetch.folder.distractors = '': Value error, must be a folder, or null"),
        ("seed", None, "seed = None"),
        ("seed", True, "params.yaml: seed: must be a number, not true or false"),
        ("train.scratch.progressive_sizes", [64, True], "train.scratch.progressive_sizes.1 = True"),
        ("evaluate.rerank", [{"name": "knn_vote", "top": True}], "evaluate.rerank.0.top: must be a number"),
    ],
)
def test_what_cannot_be_is_named(tmp_path: Path, name: str, value: Any, said: str) -> None:
    with pytest.raises(ParamsError) as caught:
        load_params(changed(tmp_path, name, value))
    assert said in str(caught.value)


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="no such file"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("a: [")
    with pytest.raises(ParamsError, match="not YAML"):
        load_params(tmp_path / "params.yaml")


def test_a_step_that_asks_for_distractors_wants_a_source_that_has_them(tmp_path: Path) -> None:
    folder = ["fetch.source=folder", "fetch.folder.landmarks=/photos", "experiment=triplet-subspaces"]
    compose(ROOT, tmp_path / "params.yaml", folder)
    with pytest.raises(ParamsError, match=r"distractor_penalty .* fetch\.source folder .* fetch\.folder\.distractors"):
        load_params(tmp_path / "params.yaml")
    compose(ROOT, tmp_path / "params.yaml", [*folder, "fetch.folder.distractors=/others"])
    assert load_params(tmp_path / "params.yaml").fetch.has_distractors
    compose(ROOT, tmp_path / "params.yaml", ["fetch.source=gldv2", "fetch.gldv2.split=test", folder[-1]])
    assert load_params(tmp_path / "params.yaml").fetch.has_distractors


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            ["evaluate.rerank=[{name:boosted}]", "split.distractors={train:0,validation:0.5,test:0.5}"],
            "boosted compares photos with distractors of the train side, and split.distractors.train = 0",
        ),
        (["evaluate.rerank=[{name:classify}]", "train.loss=triplet"], "classify asks a classifier, which train.loss ="),
        (["evaluate.rerank=[{name:knn_vote,head_power:1}]", "train.loss=none"], "knn_vote asks a classifier"),
        (["evaluate.rerank=[{name:classify}]", "train.scratch.epochs=0"], "scratch.epochs = 0 does not make"),
        (["evaluate.neighbours=99"], "evaluate.neighbours = 99"),
    ],
)
def test_what_could_only_fail_after_training_is_refused_before(tmp_path: Path, given: list[str], said: str) -> None:
    compose(ROOT, tmp_path / "params.yaml", given)
    with pytest.raises(ParamsError) as caught:
        load_params(tmp_path / "params.yaml")
    assert said in str(caught.value)


def test_a_step_cannot_look_at_more_neighbours_than_there_are(tmp_path: Path) -> None:
    steps = [{"name": "superglobal"}, {"name": "knn_vote"}]
    with pytest.raises(ParamsError, match="superglobal looks at top = 400 of neighbours = 100"):
        load_params(changed(tmp_path, "evaluate.rerank", steps))
    load_params(changed(tmp_path, "evaluate.rerank", [{"name": "superglobal", "top": 100}, {"name": "knn_vote"}]))


def test_a_neck_that_has_to_be_trained_needs_a_loss(tmp_path: Path) -> None:
    compose(ROOT, tmp_path / "params.yaml", ["train.loss=none", "train.neck=linear_relu"])
    with pytest.raises(ParamsError, match="neck = linear_relu has to be trained"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["train.scratch.epochs=0", "train.neck=vgg"], "neck = vgg has to be trained, and epochs is 0; use none"),
        (["train.loss=none", "+train.attention={width:8}"], "its branch has to be trained, and loss is none; use null"),
        (["train.scratch.epochs=0", "+train.attention={width:8}"], "has to be trained, and epochs is 0; use null"),
    ],
)
def test_what_would_stay_random_is_refused(tmp_path: Path, given: list[str], said: str) -> None:
    compose(ROOT, tmp_path / "params.yaml", given)
    with pytest.raises(ParamsError) as caught:
        load_params(tmp_path / "params.yaml")
    assert said in str(caught.value)
