"""The training loop: epochs over augmented photos, validation after each, the best kept, resumable after each."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from cairn.losses import LOSSES
from cairn.losses.attention import mixed, mixed_scores, summed
from cairn.losses.base import LossHead, class_means
from cairn.losses.weighting import class_weights
from cairn.metrics.gap import gap_of
from cairn.networks.embedder import Embedder, Seen
from cairn.networks.necks import STARTED
from cairn.params import Schedule, TrainParams
from cairn.progress import progress
from cairn.training.averaging import averaged
from cairn.training.checkpoint import load_checkpoint, save_checkpoint
from cairn.training.optimiser import clip_gradients, make_optimiser, set_rates
from cairn.training.photos import AugmentedPhotos, Location, plain_batches
from cairn.training.samplers import SAMPLERS
from cairn.training.sizes import check_sizes, size_of
from cairn.training.start import start_neck

START_PHOTOS = 20_000


@dataclass(frozen=True)
class Photos:
    """Photos of one side with their class numbers, -1 for a distractor."""

    locations: Sequence[Location]
    classes: NDArray[np.int64]


@dataclass(frozen=True)
class Trained:
    """What training gives: embedder and head at their best epoch, and one row an epoch; without epochs no head."""

    embedder: Embedder
    head: LossHead | None
    history: list[dict[str, float]]
    best_epoch: int  # 0: before any training


def train(
    embedder: Embedder,
    train_side: Photos,
    validation_side: Photos,
    params: TrainParams,
    precision: str,
    seed: int,
    keep: Path,
    on_epoch: Callable[[dict[str, float]], None],
) -> Trained:
    """Train on `train_side`; keep the epoch with the best GAP of the head on `validation_side`.

    After each epoch a checkpoint goes to `keep`, and a run that finds one there goes on from it to the same bytes.
    Raises ValueError if the network does not take photos of the schedule's sizes, or has fewer layers than it freezes.
    """
    schedule = params.schedule
    if params.loss == "none" or schedule.epochs == 0:
        return Trained(embedder.eval(), None, [], 0)
    check_sizes(embedder, schedule)
    torch.manual_seed(seed)
    sizes = np.bincount(train_side.classes)
    head = LOSSES[params.loss](embedder.config.dimensions, sizes, getattr(schedule.losses, params.loss))
    head.class_weights = class_weights(schedule.class_weight, sizes)
    network = Network(embedder, head).to("cuda" if torch.cuda.is_available() else "cpu")
    optimiser = make_optimiser(embedder, head, schedule)
    means = start(network, train_side, schedule, precision, whiten=params.weights != "none")
    average = averaged(network, schedule.average) if schedule.average else None
    photos = AugmentedPhotos(
        train_side.locations, train_side.classes.tolist(), embedder.config.preprocessing, schedule.augment, seed
    )
    sampler = SAMPLERS[schedule.sampler.name](train_side.classes, means, schedule, seed)
    loader = DataLoader(photos, batch_sampler=sampler, num_workers=params.workers)
    state = _State(network, optimiser, average, keep / "checkpoint.pt")
    for epoch in range(state.epochs_done, schedule.epochs):
        if state.epochs_since_best() >= params.patience:
            break
        photos.epoch = sampler.epoch = epoch
        photos.size = size_of(epoch, schedule, embedder.config.preprocessing.size)
        torch.manual_seed(seed * 100_003 + epoch)
        loss = run_epoch(network, average, optimiser, loader, schedule, epoch, precision)
        scores = validate(state.kept, validation_side, schedule, precision)
        row = {"epoch": float(epoch + 1), "train_loss": loss, **scores}
        state.finish_epoch(row)
        on_epoch(row)
    network.load_state_dict(state.best)
    network.cpu().eval()
    return Trained(embedder, head, state.history, state.best_epoch())


class Network(nn.Module):
    """What is trained, in one piece."""

    def __init__(self, embedder: Embedder, head: LossHead) -> None:
        super().__init__()
        self.embedder = embedder
        self.head = head

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.embedder.parameters()).device

    def autocast(self, precision: str) -> torch.autocast:
        """Where the embedder is run: bf16 casts what may be, fp32 nothing."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16")

    def seen(self, images: Tensor, precision: str) -> Seen:
        """What the embedder sees of images on any device, its features in float32."""
        with self.autocast(precision):
            found = self.embedder.seen(images.to(self.device))
        return found._replace(features=found.features.float())

    def loss(self, seen: Seen, classes: Tensor) -> Tensor:
        """The head's loss, joined with the attention branch's where there is one; `classes` int64 [batch]."""
        how = self.embedder.config.branches[0].attention
        if how is None or seen.scores is None:
            return self.head(seen.features, classes)  # type: ignore[no-any-return]
        if how.loss == "mixed":
            return mixed(self.head, seen.features, seen.scores, classes, how.alpha, how.beta)
        return summed(self.head, seen.features, seen.scores, classes)

    def scores(self, seen: Seen) -> Tensor:
        """How sure the network is of each class, float32 [batch, classes]: the head's scores, or the mixed ones."""
        how = self.embedder.config.branches[0].attention
        if how is None or seen.scores is None or how.loss != "mixed":
            return self.head.scores(seen.features)
        return mixed_scores(seen.scores, self.head.logits(seen.features), how.alpha, how.beta)


class _State:
    """Network, its running mean, optimiser and history, as they are saved and found again."""

    def __init__(
        self, network: Network, optimiser: torch.optim.Optimizer, average: AveragedModel | None, path: Path
    ) -> None:
        self.parts: dict[str, Any] = {"network": network, "optimiser": optimiser}
        if average is not None:
            self.parts["average"] = average
        self.kept: Network = network if average is None else average.module  # type: ignore[assignment]
        self.path = path
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Tensor] = {}
        found = load_checkpoint(path)
        if found is not None:
            for name, part in self.parts.items():
                part.load_state_dict(found[name])
            self.history, self.best = found["history"], found["best"]

    @property
    def epochs_done(self) -> int:
        return len(self.history)

    def best_epoch(self) -> int:
        scores = [row["validation_gap"] for row in self.history]
        return int(np.argmax(scores)) + 1 if scores else 0

    def epochs_since_best(self) -> int:
        return len(self.history) - self.best_epoch()

    def finish_epoch(self, row: dict[str, float]) -> None:
        self.history.append(row)
        if self.best_epoch() == len(self.history):
            self.best = copy.deepcopy({k: v.cpu() for k, v in self.kept.state_dict().items()})
        saved = {name: part.state_dict() for name, part in self.parts.items()}
        save_checkpoint(self.path, {**saved, "history": self.history, "best": self.best})


def run_epoch(
    network: Network,
    average: AveragedModel | None,
    optimiser: torch.optim.Optimizer,
    loader: DataLoader[tuple[Tensor, int]],
    schedule: Schedule,
    epoch: int,
    precision: str,
) -> float:
    """One pass over the training photos; the mean loss."""
    set_training(network, schedule)
    device, steps = network.device, len(loader)
    losses = []
    optimiser.zero_grad(set_to_none=True)
    for step, (images, classes) in enumerate(progress(loader, f"epoch {epoch + 1}/{schedule.epochs}", unit="batch")):
        loss = network.loss(network.seen(images, precision), classes.to(device))
        (loss / schedule.accumulate).backward()  # type: ignore[no-untyped-call]
        losses.append(loss.item())
        if (step + 1) % schedule.accumulate and step + 1 < steps:
            continue
        set_rates(optimiser, schedule, epoch * steps + step, steps)
        clip_gradients(optimiser)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if average is not None:
            average.update_parameters(network)
    return float(np.mean(losses))


def set_training(network: Network, schedule: Schedule) -> None:
    """Train mode, but for frozen layers, and the backbones' batch norms where their statistics are to be trusted."""
    network.train()
    for branch in network.embedder.branches:
        for module in branch.trunk.modules():
            trained = [parameter.requires_grad for parameter in module.parameters()]
            if trained and not any(trained) and schedule.batch_norm != "drifting":
                module.eval()
        if schedule.batch_norm == "eval":
            for module in branch.trunk.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()


@torch.inference_mode()
def validate(network: Network, side: Photos, schedule: Schedule, precision: str) -> dict[str, float]:
    """GAP and accuracy of the network's own scores on landmark photos of known classes and on distractors."""
    landmarks = int((side.classes >= 0).sum())
    if landmarks == 0:
        return {"validation_gap": 0.0, "validation_accuracy": 0.0}
    network.eval()
    loader = plain_batches(side.locations, network.embedder.config.preprocessing, schedule.batch_size, 0)
    found = [network.scores(network.seen(batch, precision)).max(dim=1) for batch in loader]
    scores = torch.cat([f.values for f in found]).cpu().numpy().astype(np.float64)
    right = torch.cat([f.indices for f in found]).cpu().numpy() == side.classes
    return {
        "validation_gap": gap_of(scores, right, landmarks, np.arange(len(scores))),
        "validation_accuracy": float(right.sum() / landmarks),
    }


@torch.no_grad()
def start(network: Network, side: Photos, schedule: Schedule, precision: str, whiten: bool) -> NDArray[np.float32]:
    """Look at up to START_PHOTOS photos with the backbones as they come: set neck and head from them if `whiten`, and
    if the neck is one of STARTED; others start at random, as in the systems that they come from.

    Returns the classes' mean features, float32 [classes, width]. A random network is not looked at, unless the sampler
    wants the means.
    """
    classes = int(side.classes.max()) + 1
    whiten = whiten and network.embedder.config.neck in STARTED
    if not whiten and schedule.sampler.name != "subspaces":
        return np.zeros((classes, 0), np.float32)
    network.eval()
    embedder = network.embedder
    chosen = np.linspace(0, len(side.locations) - 1, min(START_PHOTOS, len(side.locations))).astype(int)
    places = [side.locations[i] for i in chosen]
    loader = plain_batches(places, embedder.config.preprocessing, schedule.batch_size, 0)
    batches = progress(loader, "start", unit="batch")
    with network.autocast(precision):
        pooled = [embedder.pooled(batch.to(network.device)).float().cpu() for batch in batches]
    features, labels = torch.cat(pooled), torch.from_numpy(side.classes[chosen])
    if whiten:
        start_neck(embedder.neck, features.numpy())
        network.head.start(embedder.neck(features.to(network.device)), labels)
    return class_means(features, labels, torch.zeros(classes, features.shape[1])).numpy()
