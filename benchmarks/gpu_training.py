"""Training on a GPU: bare steps on images that are there, Cairn's own loop and loader, and a plain loop over files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import timm
import torch
from gpu_measured import Page, Settings, Window, rate, timed
from PIL import Image
from timm.data import create_transform
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from cairn.answering.preprocess import Preprocessing
from cairn.locations import Location
from cairn.losses import LOSSES
from cairn.losses.weighting import class_weights
from cairn.networks.backbones import default_size
from cairn.params import Params, load_params
from cairn.training.augment import AugmentedPhotos
from cairn.training.checkpoint import State
from cairn.training.layout import lay_out
from cairn.training.loop import Epoch, Network, fitting_of, run_epoch
from cairn.training.optimiser import make_optimiser
from cairn.training.samplers import Shuffled
from cairn.training.untrained import new_embedder

PARAMS = Path(__file__).parents[1] / "params.yaml"
CLASSES = 1000
DIMENSIONS = 512
STEPS = 2000  # of an epoch: more than are measured
RATE = 1e-4

AS_IT_COMES, BF16, LAID_OUT, COMPILED = "fp32, as timm has it", "bf16", "bf16, laid out", "bf16, laid out, compiled"
LOOP_FREE, LOOP_ALONE = "Cairn's loop, batches there, any algorithm", "Cairn's loop, batches there"
LOOP_USUAL = "Cairn's loop, workers of params.yaml"
LOOP, LOADER, PLAIN = "Cairn's loop and loader", "Cairn's loader alone", "plain loop over files"
WAITING = "waiting for photos, of its time"


class Layout(NamedTuple):
    """How a network is run; `to`: which one comes before it."""

    what: str
    bf16: bool
    laid_out: bool
    to: tuple[str, ...] = ()


LAYOUTS = (
    Layout(AS_IT_COMES, bf16=False, laid_out=False),
    Layout(BF16, bf16=True, laid_out=False, to=(AS_IT_COMES,)),
    Layout(LAID_OUT, bf16=True, laid_out=True, to=(BF16,)),
)


def bare(page: Page, settings: Settings) -> None:
    """Forward, backward and optimiser on a batch that lies on the device."""
    for layout in LAYOUTS:
        with page.trying(layout.what):
            step = bare_step(page.network, layout, settings)
            page.add(layout.what, rate(step, settings.batch, settings.seconds, settings.device), "images/s", *layout.to)
            del step


def compiled(page: Page, settings: Settings) -> None:
    """The laid-out steps by torch.compile, which needs a C compiler on the machine too."""
    try:
        with page.trying(COMPILED):
            step = bare_step(page.network, LAYOUTS[-1], settings, settings.compiler)
            found = rate(step, settings.batch, settings.seconds, settings.device)
            page.add(COMPILED, found, "images/s", LAID_OUT, AS_IT_COMES)
            del step
    except RuntimeError as error:
        page.leave(COMPILED, f"torch.compile failed: {str(error).strip().splitlines()[0]}")
    torch.compiler.reset()


def bare_step(name: str, layout: Layout, settings: Settings, compiler: str | None = None) -> Callable[[], None]:
    """A step of an untrained network of timm without a classifier."""
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=0).train()
    if layout.laid_out:
        lay_out(network, settings.device)
    else:
        network.to(settings.device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE)
    run = network if compiler is None else torch.compile(network, backend=compiler)
    size = default_size(name)
    images = torch.randn(settings.batch, 3, size, size, device=settings.device)

    def step() -> None:
        with torch.autocast(settings.device.type, torch.bfloat16, enabled=layout.bf16):
            features = run(images)
        features.float().square().mean().backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def loops(page: Page, settings: Settings, places: Sequence[Location], files: Sequence[Path]) -> None:
    """Cairn's training loop, with its loader and without, against the bare steps and against a plain loop."""
    size = default_size(page.network)
    there = torch.randn(settings.batch, 3, size, size, device=settings.device)
    for what, as_stage, to in ((LOOP_FREE, False, ()), (LOOP_ALONE, True, (LAID_OUT, LOOP_FREE))):
        with page.trying(what):
            window = cairn_loop(page.network, settings, places, Way(there, as_stage))
            page.add(what, window.rate(settings.batch), "images/s", *to)
    copying(page, settings, there)
    del there
    with page.trying(PLAIN):
        page.add(PLAIN, plain_loop(page.network, settings, files).rate(settings.batch), "images/s")
    with page.trying(LOOP):
        window = cairn_loop(page.network, settings, places, Way())
        page.add(LOOP, window.rate(settings.batch), "images/s", LAID_OUT, LOOP_ALONE, PLAIN, goal=0.9)
        page.add(WAITING, window.waited / window.seconds, "share")
    if page.network == settings.backbones[0]:
        usual = load_params(PARAMS).train.workers
        with page.trying(LOOP_USUAL):
            window = cairn_loop(page.network, settings, places, Way(workers=usual))
            page.add(f"{LOOP_USUAL}: {usual}", window.rate(settings.batch), "images/s", LOOP)
    window = Window()
    for _ in course(page.network, settings, places, Way(), window).loader(0):
        pass
    page.add(LOADER, window.rate(settings.batch), "photos/s", LOOP_ALONE)
    judge(page)


def judge(page: Page) -> None:
    """Say which of the two the other waits for."""
    alone, loader = page.value(LOOP_ALONE), page.value(LOADER)
    if alone is not None and loader is not None:
        limit = "decoding, with all cores" if loader < alone else "the network"
        page.note(f"the limit is {limit}: photos come at {loader:,.0f}/s, and {alone:,.0f}/s could be trained on")


@cache
def params_of(name: str, batch: int, workers: int) -> Params:
    """params.yaml with an untrained backbone, and what changes how steps are made as it comes."""
    params = load_params(PARAMS)
    train = params.train.model_dump() | {"backbone": name, "weights": "none", "joined": (), "loss": "arcface"}
    train |= {"neck": "linear", "pooling": "auto", "dimensions": DIMENSIONS, "attention": None, "mirrored": False}
    train |= {"workers": workers, "checkpoint_steps": None}
    train["scratch"] |= {"image_size": None, "progressive_sizes": (), "batch_size": batch, "epochs": 1}
    train["scratch"] |= {"accumulate": 1, "average": 0.0, "class_share": 1.0, "frozen_layers": 0, "layer_decay": 1.0}
    return params.model_copy(update={"train": type(params.train).model_validate(train)})


@cache
def preprocessing(name: str) -> Preprocessing:
    """That of the backbone, as Cairn has it."""
    return new_embedder(params_of(name, 2, 0), "none").config.preprocessing


class Way(NamedTuple):
    """How Cairn's loop is run."""

    given: Tensor | None = None  # images in the place of all that are loaded
    as_stage: bool = True  # torch's deterministic algorithms, as in every stage
    workers: int | None = None  # none: one a core


@dataclass(frozen=True)
class TimedEpoch(Epoch):
    """An epoch that ends when it has been measured; `given`: a batch that takes the place of all that are loaded."""

    settings: Settings
    window: Window
    given: Tensor | None

    def loader(self, first: int) -> Iterator[Any]:  # type: ignore[override]
        """Batches as the loop takes them."""
        left = len(self.batches) - first
        source = super().loader(first) if self.given is None else repeat(self.given, left)
        # Each worker comes with its first batches at once.
        warm = 4 + (2 * self.params.workers if self.given is None else 0)
        return timed(source, warm, self.settings.seconds, self.settings.device, self.window)


def course(name: str, settings: Settings, places: Sequence[Location], way: Way, window: Window) -> TimedEpoch:
    """An epoch over photos, made of those at `places` again and again."""
    params = params_of(name, settings.batch, settings.cores if way.workers is None else way.workers)
    schedule = params.train.schedule
    many = [places[at % len(places)] for at in range(STEPS * settings.batch)]
    classes = np.arange(len(many)) % CLASSES
    photos = AugmentedPhotos(many, preprocessing(name), schedule.augment, params.seed)
    batches = Shuffled(len(many), settings.batch, params.seed).batches()
    return TimedEpoch(0, batches, classes, photos, params.train, "bf16", params.seed, settings, window, way.given)


def cairn_loop(name: str, settings: Settings, places: Sequence[Location], way: Way) -> Window:
    """An epoch of cairn.training.loop, made ready as `train` there makes it, in bf16."""
    window = Window()
    epoch = course(name, settings, places, way, window)
    train, schedule = epoch.params, epoch.params.schedule
    torch.manual_seed(epoch.seed)
    embedder = new_embedder(params_of(name, settings.batch, train.workers), train.neck, CLASSES)
    sizes = np.bincount(epoch.classes)
    head = LOSSES[train.loss](embedder.config.dimensions, sizes, getattr(schedule.losses, train.loss))
    head.class_weights = class_weights(schedule.class_weight, sizes)
    network = Network(embedder, head)
    lay_out(network, settings.device)
    fitting = fitting_of(network, make_optimiser(embedder, head, schedule), schedule)
    with tempfile.TemporaryDirectory() as keep, deterministic() if way.as_stage else nullcontext():
        run_epoch(fitting, epoch, State(fitting.parts(), fitting.kept, Path(keep)))
    return window


@contextmanager
def deterministic() -> Iterator[None]:
    """As cairn.stage.use_threads sets it for every stage."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def copying(page: Page, settings: Settings, there: Tensor) -> None:
    """How long a batch takes to the device: as the loader gives it, and from memory that is pinned."""
    if settings.device.type != "cuda":
        page.leave("copying a batch to the device", "photos are there already")
        return
    plain = there.cpu()
    for what, images in (("copying a batch", plain), ("copying a batch, pinned", plain.pin_memory())):
        found = rate(lambda images=images: images.to(settings.device, non_blocking=True), 1, 1.0, settings.device)
        page.add(what, 1e3 / found, "ms")


class Files(Dataset[tuple[Tensor, int]]):
    """Image files, decoded in full and changed as timm does it for training."""

    def __init__(self, files: Sequence[Path], change: Callable[[Image.Image], Tensor]) -> None:
        self.files, self.change = files, change

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, at: int) -> tuple[Tensor, int]:
        with Image.open(self.files[at]) as image:
            return self.change(image.convert("RGB")), at % CLASSES


def plain_loop(name: str, settings: Settings, files: Sequence[Path]) -> Window:
    """timm's network and transforms, torch's DataLoader with a worker a core, cross entropy, bf16 autocast."""
    torch.manual_seed(0)
    augment = params_of(name, settings.batch, settings.cores).train.schedule.augment
    change = create_transform(
        default_size(name),
        is_training=True,
        scale=(augment.min_crop, 1.0),
        color_jitter=augment.colour_jitter,
        re_prob=augment.erase,
        interpolation="bicubic",
    )
    many = [files[at % len(files)] for at in range(STEPS * settings.batch)]
    pinned = settings.device.type == "cuda"
    loader = DataLoader(
        Files(many, change),
        settings.batch,
        shuffle=True,
        num_workers=settings.cores,
        pin_memory=pinned,
        drop_last=True,
    )
    network: nn.Module = timm.create_model(name, num_classes=CLASSES).train().to(settings.device)
    optimiser, window = torch.optim.AdamW(network.parameters(), lr=RATE), Window()
    warm = 4 + 2 * settings.cores
    for images, classes in timed(loader, warm, settings.seconds, settings.device, window):
        with torch.autocast(settings.device.type, torch.bfloat16):
            scores = network(images.to(settings.device, non_blocking=True))
        loss = nn.functional.cross_entropy(scores.float(), classes.to(settings.device, non_blocking=True))
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    return window
