"""What each published system was published with, preset by preset, and nothing else: rates, sizes, margins, chains.

The values are written out by hand, from the papers and the public code and write-ups; none is read from conf/, so that
a slip there is seen here. How a system differs between the two of its presets stands in TABLE, the rest above it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cairn.composing import compose
from cairn.params import Params, load_params

ROOT = Path(__file__).parents[1]

# A param's name -> its value. Names are those of params.yaml, but for `schedule.`, the one of train.scratch and
# train.finetune that is in use; `chain`, the names of the steps in evaluate.rerank; and `<step>.`, the params of one.
Values = Mapping[str, object]


class Preset(NamedTuple):
    """What a preset has to say."""

    published: Values  # as the system's authors have it
    ours: Values  # not as published: the head of the preset says why, or the authors leave it open


# Ours, or another system's: none of these systems does it, and no default of the project may bring it in.
NOT_DONE: Values = {
    "clean.label_noise.method": "off",
    "train.joined": (),
    "train.mirrored": False,
    "schedule.progressive_sizes": (),
    "schedule.layer_decay": 1.0,
    "schedule.frozen_layers": 0,
    "schedule.weight_decay": 0.0,
    "schedule.warmup_epochs": 0.0,
    "schedule.average": 0.0,
    "schedule.clip_norm": None,
    "schedule.augment.erase": 0.0,
    "schedule.class_weight": "none",
    "schedule.class_share": 1.0,
}

# Photos in any order, each once an epoch, and a step after each batch.
PLAIN_BATCHES: Values = {"schedule.sampler.name": "shuffled", "schedule.accumulate": 1}

# The nearest photos vote by their cosines, without prototypes or a classifier.
PLAIN_VOTE: Values = {"knn_vote.power": 1.0, "knn_vote.prototype_weight": 0.0, "knn_vote.head_power": 0.0}

# ArcFace over frozen features (GLR-2021).
ARCFACE: Values = {
    **NOT_DONE,
    **PLAIN_BATCHES,
    **PLAIN_VOTE,
    "train.backbone": "efficientnet_b1",
    "train.weights": "hub",
    "train.pooling": "max_flatten",
    "train.neck": "linear_relu",
    "train.dimensions": 512,
    "train.attention": None,
    "train.loss": "arcface",
    "schedule.losses.arcface.scale": 30.0,
    "schedule.losses.arcface.margin": 0.5,
    "schedule.epochs": 3,
    "schedule.batch_size": 64,
    "schedule.optimiser": "sgd",
    "schedule.momentum": 0.0,
    "schedule.head_lr": 0.001,
    "schedule.backbone_lr": 0.0,
    "schedule.course": "constant",
    "schedule.augment.name": "none",
    "chain": ("knn_vote",),
    "knn_vote.top": 3,
}

# Triplets from subspaces, and the penalty for looking like a distractor (GLDv2).
TRIPLET: Values = {
    **NOT_DONE,
    **PLAIN_VOTE,
    "clean.min_class_size": 10,
    "clean.scenes.backbone": "resnet50",
    "clean.scenes.top": 5,
    "clean.scenes.min_votes": 3,
    "train.backbone": "resnet101",
    "train.fit": "squash",
    "train.pooling": "gem",
    "train.neck": "linear",
    "train.start": "random",
    "train.dimensions": 512,
    "train.attention": None,
    "train.loss": "triplet",
    "schedule.image_size": 224,
    "schedule.epochs": 4,
    "schedule.batch_size": 96,  # 12 classes, 8 photos of each
    "schedule.sampler.name": "subspaces",
    "schedule.sampler.classes": 12,
    "schedule.sampler.images": 8,
    "schedule.sampler.subspaces": 20,
    "schedule.accumulate": 15,
    "schedule.optimiser": "sgd",
    "schedule.momentum": 0.9,
    "schedule.head_lr": 0.001,
    "schedule.backbone_lr": 0.001,
    "schedule.course": "constant",
    "schedule.augment.name": "resize_crop",
    # The nearest photo's landmark, and its cosine less the mean of the query's 5 nearest distractors'.
    "chain": ("knn_vote", "distractor_penalty"),
    "knn_vote.top": 1,
    "knn_vote.clip": False,
    "distractor_penalty.kind": "query_side",
    "distractor_penalty.top": 5,
    "distractor_penalty.weight": 1.0,
}
TRIPLET_OURS: Values = {
    "clean.scenes.weights": "none",  # the vote for outdoor scenes needs a Places365 network
    "train.weights": "hub",  # left open
}

# VGG-16 with a new classifier, and the attention branch on it (GLDv1).
VGG16: Values = {
    **NOT_DONE,
    **PLAIN_BATCHES,
    "train.backbone": "vgg16_bn",
    "train.fit": "centre",
    "train.pooling": "flatten",
    "train.neck": "vgg",
    "train.dimensions": 4096,  # of VGG's own classifier
    "train.loss": "softmax",
    "schedule.losses.softmax.label_smoothing": 0.0,
    "schedule.image_size": 224,
    "schedule.epochs": 3,
    "schedule.batch_size": 32,
    "schedule.optimiser": "sgd",
    "schedule.momentum": 0.9,
    "schedule.head_lr": 0.001,
    "schedule.course": "constant",
    "schedule.augment.name": "rotate_crop",
}
VGG16_AS_MEANT: Values = {"train.weights": "hub", "schedule.backbone_lr": 0.0, "schedule.batch_norm": "eval"}
VGG16_AS_CODED: Values = {"train.weights": "none", "schedule.backbone_lr": 0.001, "schedule.batch_norm": "train"}

# A classifier over frozen features, and DELF (GLDv2).
EFFICIENTNET_DELF: Values = {
    **NOT_DONE,
    **PLAIN_BATCHES,
    **PLAIN_VOTE,
    "train.backbone": "efficientnet_b0",
    "train.weights": "hub",
    "train.pooling": "mean",
    "train.neck": "dropout_linear",
    "train.dimensions": 512,
    "train.attention": None,
    "train.loss": "softmax",
    "train.patience": 2,
    "schedule.losses.softmax.label_smoothing": 0.0,
    "schedule.image_size": 224,
    "schedule.epochs": 20,
    "schedule.batch_size": 16,
    "schedule.optimiser": "adam",
    "schedule.head_lr": 0.005,
    "schedule.backbone_lr": 0.0,
    "schedule.batch_norm": "eval",
    "schedule.course": "exponential",
    "schedule.augment.name": "shift",
    "chain": ("local_features", "knn_vote"),
    "local_features.extractor": "delf",
    "local_features.top": 10,
    "local_features.size": 600,
    "local_features.max_features": 1000,
    "local_features.dimensions": 40,  # DELF's
    "local_features.mutual": False,
    "local_features.ratio": None,
    "local_features.max_distance": 0.8,
    "local_features.geometry": "affine",
    "local_features.pixels": 20.0,
    "local_features.trials": 1000,
    "knn_vote.top": 1,
}

LEFT_OPEN_FIT: Values = {"train.fit": "squash"}  # how a photo becomes a square is left open

TABLE: dict[str, Preset] = {
    "arcface": Preset(
        published={**ARCFACE, "schedule.image_size": 200, "schedule.batch_norm": "eval"},
        ours=LEFT_OPEN_FIT,
    ),
    "arcface-faithful": Preset(
        published={**ARCFACE, "schedule.image_size": 175, "schedule.batch_norm": "drifting"},
        ours=LEFT_OPEN_FIT,
    ),
    "triplet-subspaces": Preset(
        published=TRIPLET,
        ours={**TRIPLET_OURS, "schedule.sampler.rounds": 25},  # k-means as published; how many rounds is left open
    ),
    "triplet-subspaces-faithful": Preset(
        published={**TRIPLET, "schedule.sampler.rounds": 0},
        ours=TRIPLET_OURS,
    ),
    "vgg16": Preset(
        published={**VGG16, **VGG16_AS_MEANT, "train.attention": None, "chain": ("classify",)},
        ours={},
    ),
    "vgg16-faithful": Preset(
        published={**VGG16, **VGG16_AS_CODED, "train.attention": None, "chain": ("classify",)},
        ours={},
    ),
    "abn": Preset(
        published={
            **VGG16,
            "train.weights": "hub",
            "train.attention.weighting": "residual",
            "train.attention.loss": "summed",
            "chain": ("classify",),
        },
        ours={"schedule.backbone_lr": 0.001, "schedule.batch_norm": "eval"},
    ),
    "abn-faithful": Preset(
        published={
            **VGG16,
            **VGG16_AS_CODED,
            "train.attention.weighting": "plain",
            "train.attention.loss": "mixed",
            "train.attention.alpha": 0.25,
            "train.attention.beta": 1.0,
        },
        ours={"chain": ("classify",)},  # the branches' outputs are not mixed where photos are answered
    ),
    "efficientnet-delf": Preset(
        published=EFFICIENTNET_DELF,
        ours={
            **LEFT_OPEN_FIT,
            "local_features.scales": (0.25, 0.3536, 0.5, 0.7071, 1.0),
            "local_features.combine": "capped",
            "local_features.cap": 70,
        },
    ),
    "efficientnet-delf-faithful": Preset(
        published={
            **EFFICIENTNET_DELF,
            "local_features.scales": (0.25, 0.3536, 0.5, 0.7071, 1.0, 1.4142, 2.0),
            "local_features.combine": "sqrt",
        },
        ours={
            **LEFT_OPEN_FIT,
            "clean.short_side": 256,  # photos of 600 px
            "local_features.min_strength": 0.0,  # DELF's threshold is of its own network's scores
        },
    ),
    "baseline": Preset(
        published={},  # nobody's system
        ours={
            **PLAIN_VOTE,
            "train.pooling": "auto",
            "train.neck": "none",
            "train.attention": None,
            "train.loss": "none",
            "train.mirrored": False,
            "embed.baseline": False,
            "chain": ("knn_vote",),
            "knn_vote.top": 1,
            "knn_vote.clip": False,
        },
    ),
}


def named(params: Params) -> dict[str, Any]:
    """The params as the table names them, in nested blocks."""
    content = params.model_dump(by_alias=True)
    steps = content["evaluate"]["rerank"]
    chain = {"chain": tuple(step["name"] for step in steps), **{step["name"]: step for step in steps}}
    return content | {"schedule": content["train"][params.train.schedule_name]} | chain


def at(content: dict[str, Any], name: str) -> object:
    """The value that a dotted name leads to."""
    value: Any = content
    for part in name.split("."):
        value = value[part]
    return value


@pytest.mark.parametrize("preset", TABLE)
def test_a_preset_has_the_values_of_its_system(tmp_path: Path, preset: str) -> None:
    compose(ROOT, tmp_path / "params.yaml", [f"experiment={preset}", "budget=own"])
    content = named(load_params(tmp_path / "params.yaml"))
    expected = {**TABLE[preset].published, **TABLE[preset].ours}
    assert {name: at(content, name) for name in expected} == expected


def test_no_value_is_both_published_and_ours() -> None:
    assert not [preset for preset, values in TABLE.items() if values.published.keys() & values.ours.keys()]


def test_every_preset_but_the_default_is_in_the_table() -> None:
    presets = {path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml")}
    assert presets - {"default"} == set(TABLE)
