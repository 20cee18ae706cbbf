"""What one of several processes does in tests of training together; run by torchrun, or called in one process.

    together_worker.py FOLDER WHAT...

FOLDER holds photos.json and takes each result as WHAT.pt, from the first process.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cairn.locations import Location, Photos
from cairn.losses import LOSSES
from cairn.losses.weighting import class_weights
from cairn.networks.device import autocast
from cairn.networks.embedder import Embedder, make_embedder
from cairn.params import Schedule, TrainParams, load_params
from cairn.processes import joined, rank, world
from cairn.training.augment import AugmentedPhotos
from cairn.training.loop import Network, train
from cairn.training.together import Spread, gathered

ROOT = Path(__file__).parents[2]
TRAIN = load_params(ROOT / "params.yaml").train
GRADIENTS = ("arcface", "subcenter", "softmax", "triplet")
# SGD: Adam's first steps are of one length whatever the gradient, so that rounding alone may turn them round.
SGD = {"optimiser": "sgd", "head_lr": 0.002, "backbone_lr": 0.002, "batch_size": 8}
RUNS: dict[str, dict[str, Any]] = {
    "plain": SGD,
    "parts": {"class_share": 0.6, "average": 0.9, "class_weight": "log", "accumulate": 2},
    "triplets": {
        **SGD,
        "sampler": TRAIN.scratch.sampler.model_copy(update={"name": "classes", "classes": 2, "images": 4}),
    },
}
LOSS = {"plain": "arcface", "parts": "subcenter", "triplets": "triplet"}
KILLED = ("killed", "undisturbed")  # the same training, one with a process killed in its second epoch


def fresh() -> Embedder:
    torch.manual_seed(0)
    return make_embedder("test_resnet", "none", "auto", "linear", 8, 32, 64, 10.0, "centre")


def settings(run: str) -> TrainParams:
    changes = {"epochs": 3, "batch_size": 4, "image_size": 32, "warmup_epochs": 0.5, "augment": none_of(TRAIN.scratch)}
    schedule = TRAIN.scratch.model_copy(update={**changes, **RUNS[run]})
    return TRAIN.model_copy(update={"scratch": schedule, "loss": LOSS[run], "patience": 50, "dimensions": 8})


def none_of(schedule: Schedule) -> object:
    return schedule.augment.model_copy(update={"name": "none", "erase": 0.0})


def gradient(loss: str, folder: Path) -> dict[str, Any]:
    """Loss, gradients and statistics of one step on a batch of 8 images, of which each process sees a part."""
    generator = torch.Generator().manual_seed(0)
    images, classes = torch.randn(8, 3, 32, 32, generator=generator), torch.tensor([0, 1, 2, 0, 1, 1, 0, 2])
    sizes = np.array([3, 30, 2])
    embedder = fresh()
    head = LOSSES[loss](8, sizes, getattr(TRAIN.scratch.losses, loss))
    if loss != "triplet":
        head.class_weights = class_weights("sqrt", sizes)
    network = Network(embedder, head).train()
    spread, size = Spread(embedder), 8 // world()
    for part in range(2):  # two batches to a step
        with spread.shared(part == 1):
            own = (images + part)[rank() * size : (rank() + 1) * size]
            value = network.loss(gathered(spread.seen(own, autocast(network.device, "fp32"))), classes)
            (value / 2).backward()
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    return {"loss": value.detach(), "gradients": gradients, "buffers": dict(network.named_buffers())}


def write_photos(folder: Path, photos: Photos) -> None:
    """Put where they lie, and their classes, into FOLDER."""
    places = [(str(at.root), at.shard, at.offset, at.size) for at in photos.locations]
    (folder / "photos.json").write_text(json.dumps([places, photos.classes.tolist()]))


def read_photos(folder: Path) -> Photos:
    """What `write_photos` has put there."""
    places, classes = json.loads((folder / "photos.json").read_text())
    return Photos([Location(Path(root), *rest) for root, *rest in places], np.array(classes, dtype=np.int64))


def trained(run: str, folder: Path) -> dict[str, Any]:
    """A whole training."""
    photos = read_photos(folder)
    keep = folder / f"keep_{run}_{world()}"
    found = train(
        fresh(), photos, photos, settings("parts" if run in KILLED else run), "fp32", 5, keep, lambda row: None
    )
    assert found.head is not None
    return {"history": found.history, "embedder": found.embedder.state_dict(), "head": found.head.state_dict()}


def die_once() -> None:
    """Have the second process killed when it reads a photo in the second epoch, the first time it comes there."""
    if os.environ["TORCHELASTIC_RESTART_COUNT"] != "0" or rank() != 1:
        return
    given = AugmentedPhotos.__getitem__
    read = []

    def deadly(self: AugmentedPhotos, place: tuple[int, int]) -> torch.Tensor:
        read.append(self.epoch)
        if read.count(1) == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return given(self, place)

    AugmentedPhotos.__getitem__ = deadly  # type: ignore[method-assign]


def main(folder: Path, wanted: list[str]) -> None:
    """Do each thing that is `wanted`, one after the other."""
    torch.set_num_threads(1)
    for what in wanted:
        if what == "killed":
            die_once()
        found = gradient(what, folder) if what in GRADIENTS else trained(what, folder)
        if rank() == 0:
            torch.save(found, folder / f"{what}_{world()}.pt")


if __name__ == "__main__":
    with joined():
        main(Path(sys.argv[1]), sys.argv[2:])
