"""Every param: its type and its range. What `params.yaml` says is checked here, once; `conf/` has the defaults.

An unknown key or a value out of range stops with the param's name and what is allowed. Null (`-S name=null`) is no
value; `none` is a word that some params know.
"""

from __future__ import annotations

import itertools
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from ruamel.yaml.error import YAMLError

from cairn.losses.params import ArcFaceParams, SoftmaxParams, SubCenterParams, TripletParams
from cairn.networks.params import AttentionParams, NeckName, PoolingName, Precision
from cairn.retrieval.rerankers import Step
from cairn.retrieval.rerankers.chain import check_order
from cairn.yamls import read_yaml

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Pixels = Annotated[int, Field(ge=32, le=2048)]  # of a side of the network's square input

MAX_BYTES = 200_000  # of params.yaml, which has some 5,000: YAML takes its time
MAX_SHOWN = 20  # wrong params that are named
MAX_NAME = 100  # characters of a part of their names
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 200, 200


class ParamsError(ValueError):
    """params.yaml says something that cannot be."""


class Block(BaseModel):
    """A block of params.yaml: immutable, and no key but the ones named here."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SyntheticParams(Block):
    """The embedded default data: landmarks built from solids, rendered from many viewpoints."""

    landmarks: Annotated[int, Field(ge=2, le=2000)]
    images: Annotated[int, Field(ge=8)]  # of landmarks, duplicates and broken ones not counted
    distractors: Count
    exact_duplicates: Count
    near_duplicates: Count
    broken: Count
    mislabelled: Count
    size: Annotated[int, Field(ge=48, le=1024)]  # pixels of the longer side


class FolderParams(Block):
    """Your own photos: a folder per landmark, any depth below it."""

    landmarks: Path | None
    distractors: Path | None

    @field_validator("landmarks", "distractors", mode="before")
    @classmethod
    def _not_empty(cls, path: object) -> object:
        if path == "":
            raise ValueError("must be a folder, or null; an empty path would be the project's own")
        return path


class Gldv2Params(Block):
    """Google Landmarks v2, or anything laid out like it."""

    base_url: str
    split: Literal["train", "index", "test"]
    labels: Literal["full", "clean"]  # clean: only the images of train_clean.csv
    first_shard: Annotated[int, Field(ge=0, le=999)]
    last_shard: Annotated[int, Field(ge=0, le=999)]  # included
    workers: Annotated[int, Field(ge=1, le=64)]
    retries: Annotated[int, Field(ge=0, le=20)]
    timeout_s: Annotated[float, Field(gt=0, le=3600)]

    @model_validator(mode="after")
    def _in_order(self) -> Gldv2Params:
        if self.last_shard < self.first_shard:
            raise ValueError(f"last_shard {self.last_shard} must be at least first_shard {self.first_shard}")
        return self


class FetchParams(Block):
    """Where the photos come from."""

    source: Literal["synthetic", "folder", "gldv2"]
    shard_mb: Annotated[float, Field(gt=0, le=4096)]  # a shard is closed when it holds this much
    synthetic: SyntheticParams
    folder: FolderParams
    gldv2: Gldv2Params

    @property
    def has_distractors(self) -> bool:
        """Whether the source has photos that show no landmark."""
        if self.source == "folder":
            return self.folder.distractors is not None
        if self.source == "gldv2":
            return self.gldv2.split == "test"
        return self.synthetic.distractors > 0


class ValidateParams(Block):
    """What the raw data must hold before any work is put into it."""

    min_decodable_share: Share
    min_landmarks: Positive
    max_class_share: Share  # of all landmark photos that one landmark may have
    sample: Count  # photos decoded to estimate the decodable share; 0: all
    max_photo_mb: Annotated[float, Field(gt=0)]


class NearDuplicateParams(Block):
    """Two photos of one view. The closest are dropped, the others kept together on one side of the split."""

    # Perceptual hashes of 64 bits that differ in at most so many; -1: never.
    drop_bits: Annotated[int, Field(ge=-1, le=64)]
    group_bits: Annotated[int, Field(ge=-1, le=64)]
    drop_cosine: Annotated[float, Field(ge=0, le=1.01)]  # over 1: never
    group_cosine: Annotated[float, Field(ge=0, le=1.01)]
    backbone: str | None  # the network that embeds for this; null: perceptual hash alone
    weights: str


class SceneParams(Block):
    """Outdoor vote of a Places365 network (the triplet system's cleaning); off without weights."""

    backbone: str
    weights: str  # none, or a file with 365 classes
    categories: Path | None  # Places365's IO_places365.txt: a category and 1 (indoor) or 2 (outdoor) a line
    top: Annotated[int, Field(ge=1, le=365)]
    min_votes: Annotated[int, Field(ge=0, le=365)]


class NeighbourVoteParams(Block):
    """A label that few of the nearest photos share. Near duplicates have one vote, and none on each other."""

    k: Annotated[int, Field(ge=1, le=1000)]  # nearest photos that vote
    min_share: Share  # of them that must share the label
    rival_share: Share  # of them that must show one other landmark, or none: an odd view's nearest show many
    distractor_share: Annotated[float, Field(gt=0, le=1)]  # a distractor is doubted if so many show one landmark


class GeometryVoteParams(Block):
    """A label that few of the nearest photos confirm point by point (SIFT, one homography)."""

    neighbours: Annotated[int, Field(ge=1, le=1000)]  # nearest photos looked at; the published cleaning: 100
    min_inliers: Annotated[int, Field(ge=4)]  # the published cleaning: 30; photos of 224 pixels seldom have so many
    min_friends: Positive  # photos of the label with so many inliers; the published cleaning: 2 to 3
    size: Annotated[int, Field(ge=32, le=4096)]  # pixels of the longer side; larger photos are reduced to it


class LabelNoiseParams(Block):
    """Photos whose label is doubted: listed by cleaning, set aside (or not) by split.suspects.

    The network that finds neighbours is that of near_duplicates. both: neighbours and geometry must agree.
    """

    method: Literal["off", "neighbours", "geometry", "both"]
    neighbours: NeighbourVoteParams
    geometry: GeometryVoteParams


class CleanParams(Block):
    """What is set aside, and how the rest is stored."""

    workers: Annotated[int, Field(ge=1, le=256)]  # processes that decode and resize
    shard_mb: Annotated[float, Field(gt=0, le=4096)]
    short_side: Annotated[int, Field(ge=32, le=4096)]  # pixels; larger photos are resized to it, smaller ones kept
    jpeg_quality: Annotated[int, Field(ge=50, le=100)]
    min_side: Annotated[int, Field(ge=1)]  # pixels
    max_aspect: Annotated[float, Field(ge=1)]  # long side over short side
    max_megapixels: Annotated[float, Field(gt=0, le=1000)]  # a bomb is refused before it is decoded
    min_class_size: Positive  # after everything else was dropped
    near_duplicates: NearDuplicateParams
    scenes: SceneParams
    label_noise: LabelNoiseParams


class Whole(Block):
    """Shares that make up a whole."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        names = type(self).model_fields
        total = sum(getattr(self, name) for name in names)
        if abs(total - 1) > 1e-6:
            raise ValueError(f"{' + '.join(names)} must be 1, not {total:g}")
        return self


class Ratios(Whole):
    """Shares of a landmark's photos."""

    train: Share
    validation: Share
    index: Share
    test: Share


class DistractorRatios(Whole):
    """Shares of the photos that show no landmark."""

    train: Share
    validation: Share
    test: Share


class SplitParams(Block):
    """Who is trained on, searched in, and asked about."""

    ratios: Ratios
    distractors: DistractorRatios
    unseen_landmarks: (
        Share  # kept out of training: known to the index, and asked about on the validation and test sides
    )
    # Photos whose label cleaning doubts. aside: off the train and index sides; queries keep theirs, so that figures
    # are of data as dirty as it comes.
    suspects: Literal["aside", "keep"]


class LossesParams(Block):
    """Of each loss; train.loss says which is used."""

    arcface: ArcFaceParams
    subcenter: SubCenterParams
    softmax: SoftmaxParams
    triplet: TripletParams


class SamplerParams(Block):
    """What makes up a batch. shuffled: every photo once an epoch; classes: so many photos of so many landmarks;
    subspaces: the same, of landmarks that look alike (clusters of their means). Where fewer landmarks are trained on
    than a batch wants, it has more photos of each.
    """

    name: Literal["shuffled", "classes", "subspaces"]
    classes: Annotated[int, Field(ge=2)]  # times images is a batch
    images: Annotated[int, Field(ge=2)]
    subspaces: Positive
    rounds: Count  # of k-means; 0: clusters around random landmarks


class AugmentParams(Block):
    """How a training photo is changed. `cairn/training/augment.py` says what each name does."""

    name: Literal["none", "crop", "resize_crop", "rotate_crop", "shift", "randaugment"]
    min_crop: Annotated[float, Field(gt=0, le=1)]  # random resized crop: the least share of the area
    colour_jitter: Share  # crop
    erase: Share  # probability of random erasing
    operations: Annotated[int, Field(ge=0, le=14)]  # randaugment: how many in a row
    magnitude: Annotated[int, Field(ge=0, le=30)]  # randaugment


class Schedule(Block):
    """How long and how fast to train."""

    image_size: Pixels | None  # null: the backbone's own
    progressive_sizes: tuple[Pixels, ...]  # of earlier epochs, growing; image_size comes last, all for equally long
    epochs: Count
    least_shown: Count  # of so few photos that `epochs` show fewer in all, each is shown several times an epoch
    batch_size: Annotated[int, Field(ge=2)]  # the samplers classes and subspaces have batches of their own
    head_lr: Annotated[float, Field(gt=0)]
    backbone_lr: Annotated[float, Field(ge=0)]  # 0: frozen
    layer_decay: Annotated[float, Field(gt=0, le=1)]  # each layer's rate as a share of the next one's; 1: all alike
    frozen_layers: Count  # of each backbone, counted from its input as timm counts them, the stem being one
    weight_decay: Annotated[float, Field(ge=0)]
    warmup_epochs: Annotated[float, Field(ge=0)]
    # Of the backbone: eval where weights carry folded or trusted statistics. Frozen layers are in eval mode either way,
    # but for drifting, which leaves all in train mode and so moves a frozen backbone's statistics (a published fault).
    batch_norm: Literal["train", "eval", "drifting"]
    optimiser: Literal["adamw", "adam", "sgd"]
    momentum: Annotated[float, Field(ge=0, lt=1)]  # sgd
    course: Literal["cosine", "constant", "exponential"]  # of the learning rate; exponential: 0.96 every 100 steps
    accumulate: Positive  # batches to a step
    average: Annotated[float, Field(ge=0, lt=1)]  # decay of the running mean of weights that is kept; 0: none
    # What gradients of each part are brought down to; null: they stay as they are.
    clip_norm: Annotated[float, Field(gt=0)] | None
    sampler: SamplerParams
    augment: AugmentParams
    class_weight: Literal["none", "log", "sqrt"]  # of a photo in the loss: 1, 1 / log(1 + n), 1 / sqrt(n); not triplet
    # Of the classes that each step compares its photos with: their own, and random others up to this; 1: all. Not
    # triplet.
    class_share: Annotated[float, Field(gt=0, le=1)]
    losses: LossesParams

    @model_validator(mode="after")
    def _growing(self) -> Schedule:
        sizes = [*self.progressive_sizes, *([] if self.image_size is None else [self.image_size])]
        if any(after <= before for before, after in itertools.pairwise(sizes)):
            raise ValueError(f"progressive_sizes must grow, and image_size be larger still: {sizes}")
        if 0 < self.epochs <= len(self.progressive_sizes):
            raise ValueError(f"{len(self.progressive_sizes)} progressive_sizes and image_size need an epoch each")
        return self


class JoinedParams(Block):
    """One more backbone, whose features are joined with the first one's."""

    backbone: str
    weights: str


class TrainParams(Block):
    """The embedding network and how it is fitted."""

    backbone: str  # any name timm knows
    weights: str  # none, hub, or a .safetensors or .pth file
    joined: tuple[JoinedParams, ...]  # further backbones in the same network
    fit: Literal["squash", "centre"]  # how a photo becomes a square: shape given up, or its middle
    pooling: Literal["auto"] | PoolingName  # auto: gem of a map; of tokens class_mean, or mean without a class token
    neck: NeckName  # `cairn/networks/necks.py` says what each name is
    # With weights and the necks linear and none: from what the backbones see of the training photos, the neck half
    # whitening it (`cairn/training/start.py`), the head at the classes' means. Otherwise, and with other necks, random.
    start: Literal["features", "random"]
    dimensions: Annotated[int, Field(ge=8, le=8192)] | None  # of the embedding; null: as many as pooling gives
    loss: Literal["none", "arcface", "subcenter", "softmax", "triplet"]  # none: no training
    attention: AttentionParams | None  # a branch that says where the first backbone should look
    scratch: Schedule  # used where weights is none
    finetune: Schedule  # used where weights are given
    patience: Positive  # epochs without a better validation score before training stops
    checkpoint_steps: Positive | None  # a checkpoint after so many steps, besides that after each epoch
    workers: Count  # processes that load training photos; 0: the training process itself, between steps
    mirrored: bool  # the embedding is the mean of those of the photo and of its mirror image; training sees one

    @model_validator(mode="after")
    def _together(self) -> TrainParams:
        if self.loss == "triplet" and self.schedule.class_weight != "none":
            raise ValueError("class_weight: the triplet loss has no weight for a photo; use none")
        if self.schedule.class_share < 1 and self.loss == "triplet":
            raise ValueError("class_share: the triplet loss compares photos, not classes; use 1")
        if self.schedule.class_share < 1 and self.attention is not None and self.attention.loss == "mixed":
            raise ValueError("class_share: attention.loss = mixed needs all classes; use 1, or summed")
        if "flatten" in self.pooling and self.schedule.progressive_sizes:
            raise ValueError(f"progressive_sizes: pooling {self.pooling} takes one size only; use gem or mean")
        if self.attention is not None and self.attention.loss == "mixed" and self.loss != "softmax":
            raise ValueError(f"attention.loss = mixed mixes logits, which loss = {self.loss} has not; use softmax")
        smoothing = self.schedule.losses.softmax.label_smoothing
        if self.attention is not None and self.attention.loss == "mixed" and smoothing > 0:
            raise ValueError(f"label_smoothing = {smoothing}: attention.loss = mixed smooths nothing; use 0, or summed")
        return self

    @model_validator(mode="after")
    def _nothing_left_random(self) -> TrainParams:
        untrained = "loss is none" if self.loss == "none" else "epochs is 0" if self.schedule.epochs == 0 else None
        if untrained is not None and self.neck not in ("none", "linear"):
            raise ValueError(f"neck = {self.neck} has to be trained, and {untrained}; use none or linear")
        if untrained is not None and self.attention is not None:
            raise ValueError(f"attention: its branch has to be trained, and {untrained}; use null")
        return self

    @property
    def schedule(self) -> Schedule:
        """The one in use."""
        return self.scratch if self.schedule_name == "scratch" else self.finetune

    @property
    def schedule_name(self) -> Literal["scratch", "finetune"]:
        """The name of the one in use."""
        return "scratch" if self.weights == "none" else "finetune"


class EmbedParams(Block):
    """How photos are embedded."""

    batch_size: Positive  # photos that are embedded at once
    precision: Precision  # of the forward pass; the server's is its own
    baseline: bool  # also embed with the untrained network, so that its figures stand beside the result


class IndexParams(Block):
    """What is searched."""

    type: str  # auto, or a FAISS factory string such as Flat or IVF1024,SQfp16
    recall: Share  # of the true nearest photos, that an index of inverted lists has to find
    nprobe: Annotated[int, Field(ge=1)] | None  # lists looked through; null: as many as that recall needs
    recall_queries: Positive  # how many queries measure the index against Flat


class EvaluateParams(Block):
    """How neighbours become an answer, and how far the ranking is looked at."""

    neighbours: Annotated[int, Field(ge=100, le=1000)]  # of a query; mAP@100 looks at a hundred
    rerank: tuple[Step, ...]  # steps in order, one of which answers; `cairn/retrieval/rerankers/` says what they do
    target_precision: Share  # the threshold of an answer is chosen for this on the validation side
    # Of scores into probabilities, on the validation side; auto: the one that does better there, cross-validated.
    calibration: Literal["auto", "platt", "isotonic"]
    at_most: tuple[Positive, ...]  # asked again with at most so many index photos a landmark
    draws: Positive  # of those photos, for a mean

    @model_validator(mode="after")
    def _answers(self) -> EvaluateParams:
        check_order(self.rerank)
        if not any(step.changes == "answers" for step in self.rerank):
            raise ValueError("rerank: no step answers; add knn_vote, or another that makes answers of neighbours")
        return self

    @model_validator(mode="after")
    def _deep_enough(self) -> EvaluateParams:
        for step in self.rerank:
            if step.depth > self.neighbours:
                raise ValueError(f"rerank: {step.name} looks at top = {step.depth} of neighbours = {self.neighbours}")
        return self


class BatchingParams(Block):
    """How the server gathers requests into batches of the network."""

    preferred: tuple[Positive, ...]  # sizes that are run at once; those over the largest batch are left out
    delay_ms: Annotated[float, Field(ge=0, le=1000)]  # how long a smaller batch waits for more
    queue: Positive  # requests that wait at most; more are refused at once
    timeout_s: Annotated[float, Field(gt=0, le=3600)]  # a request that waited so long is refused: nobody listens
    instances: Annotated[int, Field(ge=1, le=64)]  # copies of the network, on each GPU; the python embedder has one


class ProfileParams(Block):
    """Batches that the TensorRT plan is made for. It takes any from 1 on: a single photo must have its answer."""

    opt: Positive  # the one it is tuned for
    max: Positive


class BuilderParams(Block):
    """What TensorRT may use to look for the fastest plan."""

    workspace_gb: Annotated[float, Field(gt=0, le=1024)]  # GPU memory for the scratch space of a layer
    level: Annotated[int, Field(ge=0, le=5)]  # effort: 0 builds fastest, 5 looks longest
    tf32: bool  # whether what stays in FP32 may be multiplied in TF32


class ExportParams(Block):
    """What is served, and how like the trained network it must be."""

    opset: Annotated[int, Field(ge=17, le=25)]
    max_batch: Annotated[int, Field(ge=2, le=1024)]
    parity_photos: Positive
    min_cosine: Annotated[float, Field(gt=0, le=1)]  # of ONNX files to the trained network, of the plan to FP16 ONNX
    min_agreement: Share  # of top-1 answers on validation queries
    batching: BatchingParams
    tensorrt: Literal["auto", "require", "off"]  # auto: a plan where TensorRT and a GPU are; require: or an error
    profile: ProfileParams
    builder: BuilderParams

    @model_validator(mode="after")
    def _sizes(self) -> ExportParams:
        if not self.profile.opt <= self.profile.max <= self.max_batch:
            raise ValueError(
                f"profile: opt <= max <= max_batch is needed; {self.profile.opt}, {self.profile.max}, {self.max_batch}"
            )
        return self


class Params(Block):
    """All of params.yaml."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    threads: Annotated[int, Field(ge=1, le=1024)]  # results are repeatable at one number of threads
    processes: Annotated[int, Field(ge=1, le=4096)]  # that train and embed share, over all machines; docs/large.md
    precision: Precision  # of training's forward pass; that of embeddings is embed.precision
    fetch: FetchParams
    validate_: ValidateParams = Field(alias="validate")
    clean: CleanParams
    split: SplitParams
    train: TrainParams
    embed: EmbedParams
    index: IndexParams
    evaluate: EvaluateParams
    export: ExportParams

    @model_validator(mode="after")
    def _what_steps_ask_for(self) -> Params:
        asking = [step.name for step in self.evaluate.rerank if step.asks_distractors]
        if asking and not self.fetch.has_distractors:
            raise ValueError(
                f"evaluate.rerank: {asking[0]} compares photos with distractors, and fetch.source {self.fetch.source} "
                "has none; name some with fetch.folder.distractors, or leave the step out"
            )
        if asking and self.split.distractors.train == 0:
            raise ValueError(
                f"evaluate.rerank: {asking[0]} compares photos with distractors of the train side, and "
                "split.distractors.train = 0 leaves it none; raise it, or leave the step out"
            )
        asking = [step.name for step in self.evaluate.rerank if step.asks_classifier]
        if asking and (self.train.loss in ("none", "triplet") or self.train.schedule.epochs == 0):
            raise ValueError(
                f"evaluate.rerank: {asking[0]} asks a classifier, which train.loss = {self.train.loss} with "
                f"{self.train.schedule_name}.epochs = {self.train.schedule.epochs} does not make; take another loss, "
                "train for an epoch at least, or leave the step out"
            )
        return self


def load_params(path: Path) -> Params:
    """Read and check params.yaml. Raises ParamsError with each wrong param's full name, value and what is allowed."""
    try:
        if not path.is_file() and path.exists():
            raise ParamsError(f"{path}: not a file; run from the project's root")
        if path.stat().st_size > MAX_BYTES:
            raise ParamsError(f"{path}: {path.stat().st_size} bytes, over the limit of {MAX_BYTES}; `make params`")
        content = read_yaml(path)
    except FileNotFoundError as error:
        raise ParamsError(f"{path}: no such file; run from the project's root") from error
    except OSError as error:
        raise ParamsError(f"{path}: cannot be read ({error.strerror}); give read rights") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: not YAML: {error}; mend it, or `make params` makes it anew") from error
    try:
        params = Params.model_validate(content)
    except ValidationError as error:
        lines = [f"{path}: {error.error_count()} param(s) cannot be used:"]
        lines += [_said(item) for item in error.errors(include_url=False)[:MAX_SHOWN]]
        raise ParamsError("\n".join(lines)) from error
    flags = list(_flags_for_numbers(content, params.model_dump(by_alias=True)))
    if flags:
        raise ParamsError(f"{path}: {', '.join(flags)}: must be a number, not true or false")
    return params


def _flags_for_numbers(given: object, taken: object, name: str = "") -> Iterator[str]:
    """The params of which pydantic took true for 1 or false for 0."""
    if isinstance(given, bool) and not isinstance(taken, bool):
        yield name.removeprefix(".")
    elif isinstance(given, Mapping) and isinstance(taken, Mapping):
        for key, value in given.items():
            yield from _flags_for_numbers(value, taken[key], f"{name}.{key}")
    elif isinstance(given, Sequence) and isinstance(taken, Sequence) and not isinstance(given, str):
        for at, (value, other) in enumerate(zip(given, taken, strict=True)):
            yield from _flags_for_numbers(value, other, f"{name}.{at}")


def _said(item: ErrorDetails) -> str:
    """A line about a wrong param; shortened, since anchors make a value of gigabytes out of a few lines."""
    name = ".".join(str(part)[:MAX_NAME] for part in item["loc"]) or "(the whole file)"
    name = name if name.isprintable() else repr(name)
    if item["type"] == "missing":
        return f"  {name}: missing"
    message = "no such param" if item["type"] == "extra_forbidden" else item["msg"]
    return f"  {name} = {_SHORT.repr(item['input'])}: {message}"
