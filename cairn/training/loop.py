"""The training loop: epochs over augmented photos, validation after each, the best kept, resumable after each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from cairn.allocation import keep_memory
from cairn.locations import Photos
from cairn.losses import LOSSES
from cairn.losses.attention import mixed, mixed_scores, summed
from cairn.losses.base import CLASS_BLOCK, LossHead, class_means
from cairn.losses.partial import Part, draw_classes, part_of, partial_loss
from cairn.losses.weighting import class_weights
from cairn.metrics.gap import gap_of
from cairn.networks.device import autocast, best_device
from cairn.networks.embedder import Embedder, Seen
from cairn.networks.necks import STARTED
from cairn.params import Schedule, TrainParams
from cairn.processes import rank, world
from cairn.progress import progress
from cairn.ranks import earlier_alike
from cairn.training.augment import AugmentedPhotos
from cairn.training.averaging import averaged
from cairn.training.checkpoint import State
from cairn.training.layout import as_laid_out, lay_back, lay_out
from cairn.training.optimiser import clip_gradients, make_optimiser, set_rates
from cairn.training.photos import plain_batches
from cairn.training.rows import RowAverage, RowOptimiser
from cairn.training.samplers import SAMPLERS
from cairn.training.sizes import check_sizes, size_of
from cairn.training.small_side import for_side
from cairn.training.start import start_neck
from cairn.training.together import PartOfBatches, Spread, gathered, summed_up

START_PHOTOS = 20_000
VALIDATED_TOGETHER = 1024  # photos that many classes are compared with at once


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

    After each epoch, and after every `params.checkpoint_steps` steps, a checkpoint goes to `keep`, and a run that finds
    one there goes on from it to the same bytes. Of several processes, all must call this within `processes.joined`,
    and what the first one returns is the result.
    Raises ValueError if the network does not take photos of the schedule's sizes, has fewer layers than it freezes or
    nothing to train, if the processes cannot have equal parts of a batch, or if a loss is no number any more.
    """
    keep_memory()
    if params.loss == "none" or params.schedule.epochs == 0:
        return Trained(unfitted(embedder, train_side, params, precision), None, [], 0)
    sizes = np.bincount(train_side.classes)
    schedule, shown = for_side(params.schedule, train_side, world())
    params = params.model_copy(update={params.schedule_name: schedule})
    check_sizes(embedder, schedule)
    torch.manual_seed(seed)
    head = LOSSES[params.loss](embedder.config.dimensions, sizes, getattr(schedule.losses, params.loss))
    head.class_weights = class_weights(schedule.class_weight, sizes)
    head.requires_grad_(schedule.class_share == 1)  # otherwise its rows have an optimiser of their own
    network = Network(embedder, head)
    lay_out(network, best_device())
    optimiser = make_optimiser(embedder, head, schedule)
    means = start(network, train_side, params, precision)
    fitting = fitting_of(network, optimiser, schedule)
    photos = AugmentedPhotos(shown.locations, embedder.config.preprocessing, schedule.augment, seed)
    sampler = SAMPLERS[schedule.sampler.name](shown.classes, means, schedule, seed)
    state = State(fitting.parts(), fitting.kept, keep)
    for epoch in range(state.epochs_done, schedule.epochs):
        if state.epochs_since_best() >= params.patience:
            break
        photos.epoch = sampler.epoch = epoch
        photos.size = size_of(epoch, schedule, embedder.config.preprocessing.size)
        course = Epoch(epoch, sampler.batches(), shown.classes, photos, params, precision, seed)
        loss = run_epoch(fitting, course, state)
        scores = validate(fitting.finished(), validation_side, schedule, precision)
        row = {"epoch": float(epoch + 1), "train_loss": loss, **scores}
        state.finish_epoch(row)
        if rank() == 0:
            on_epoch(row)
    if rank() == 0:
        network.load_state_dict(state.best())
    lay_back(network.eval())
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

    def seen(self, images: Tensor, precision: str) -> Seen:
        """What the embedder sees of images on any device, its features in float32."""
        with autocast(self.device, precision):
            found = self.embedder.seen(images.to(self.device))
        return found._replace(features=found.features.float())

    def loss(self, seen: Seen, classes: Tensor, part: Part | None = None) -> Tensor:
        """The head's loss, joined with the attention branch's where there is one; `classes` int64 [batch].

        With a `part` it is that over the part's classes; what the attention branch says is still of all of them.
        """
        how = self.embedder.config.branches[0].attention
        if how is not None and seen.scores is not None and how.loss == "mixed":
            return mixed(self.head, seen.features, seen.scores, classes, how.alpha, how.beta)
        if how is not None and seen.scores is not None:
            return summed(self.head, seen.features, seen.scores, classes, part)
        if part is not None:
            return partial_loss(self.head, part, seen.features, classes)
        return self.head(seen.features, classes)  # type: ignore[no-any-return]

    def scores(self, seen: Seen) -> Tensor:
        """How sure the network is of each class, float32 [batch, classes]: the head's scores, or the mixed ones."""
        how = self.embedder.config.branches[0].attention
        if how is None or seen.scores is None or how.loss != "mixed":
            return self.head.scores(seen.features)
        return mixed_scores(seen.scores, self.head.logits(seen.features), how.alpha, how.beta)

    def best(self, batches: Sequence[Seen]) -> tuple[Tensor, Tensor]:
        """The largest of `scores` and its class, for one batch or, where there is no attention branch, several."""
        if batches[0].scores is None:
            return self.head.best(torch.cat([seen.features for seen in batches]))
        (seen,) = batches
        top = self.scores(seen).max(dim=1)
        return top.values, top.indices


@dataclass(frozen=True)
class Fitting:
    """The network with all that steps change of it.

    Where a step sees a share of the classes only, the head's rows have an optimiser and a running mean of their own,
    and `optimiser` and `average` are the embedder's.
    """

    network: Network
    spread: Spread
    optimiser: torch.optim.Optimizer
    rows: RowOptimiser | None
    average: AveragedModel | None
    row_average: RowAverage | None
    kept: Network  # what is validated and saved: the network, or its running mean

    def parts(self) -> dict[str, object]:
        """What a checkpoint holds, by name."""
        names = ("network", "optimiser", "rows", "average", "row_average")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def finished(self) -> Network:
        """`kept` with every running mean brought up to now."""
        if self.row_average is not None:
            self.row_average.finish(self.network.head)
        return self.kept


def fitting_of(network: Network, optimiser: torch.optim.Optimizer, schedule: Schedule) -> Fitting:
    """A fitting before the first step."""
    rows = RowOptimiser(network.head, schedule) if schedule.class_share < 1 else None
    spread = Spread(network.embedder)
    if not schedule.average:
        return Fitting(network, spread, optimiser, rows, None, None, network)
    if rows is None:
        average = averaged(network, schedule.average)
        return Fitting(network, spread, optimiser, None, average, None, average.module)  # type: ignore[arg-type]
    average, row_average = averaged(network.embedder, schedule.average), RowAverage(network.head, schedule.average)
    kept = Network(average.module, row_average.head)  # type: ignore[arg-type]
    return Fitting(network, spread, optimiser, rows, average, row_average, kept)


@dataclass(frozen=True)
class Epoch:
    """One pass over what is shown of the training photos, before it begins."""

    number: int  # from 0
    batches: Sequence[NDArray[np.int64]]  # positions of photos, of all processes together
    classes: NDArray[np.int64]  # of each photo
    photos: AugmentedPhotos
    params: TrainParams
    precision: str
    seed: int

    def loader(self, first: int) -> DataLoader[Tensor]:
        """This process's part of the batches from `first` on."""
        part = PartOfBatches(self.batches[first:], world(), rank())
        pinned = torch.cuda.is_available()  # what lies so is copied while the GPU works
        return DataLoader(self.photos, batch_sampler=part, num_workers=self.params.workers, pin_memory=pinned)

    def seed_torch(self, batch: int) -> None:
        """Set the random numbers inside the network to those of this place in training; each process has its own."""
        if (batch, rank()) == (0, 0):
            torch.manual_seed(self.seed * 100_003 + self.number)
        else:
            place = np.random.SeedSequence((self.seed, self.number, batch, rank()))
            torch.manual_seed(int(place.generate_state(1, np.uint64)[0] >> np.uint64(1)))

    def part(self, head: LossHead, batch: int) -> Part:
        """The classes of the step that begins with `batch`, the same in all processes: its own, and random others."""
        schedule = self.params.schedule
        present = np.concatenate([self.classes[b] for b in self.batches[batch : batch + schedule.accumulate]])
        rng = np.random.default_rng((self.seed, self.number, batch, 1))
        return part_of(head, draw_classes(present, head.classes, schedule.class_share, rng))


def run_epoch(fitting: Fitting, epoch: Epoch, state: State) -> float:
    """One pass over the training photos, from where `state` left it; the mean loss."""
    network, schedule, batches = fitting.network, epoch.params.schedule, len(epoch.batches)
    steps = -(-batches // schedule.accumulate)
    set_training(network, schedule)
    fitting.optimiser.zero_grad(set_to_none=True)
    part: Part | None = None
    epoch.seed_torch(0)
    loader, saved_every = epoch.loader(state.batches_done), (epoch.params.checkpoint_steps or 0) * schedule.accumulate
    what = f"epoch {epoch.number + 1}/{schedule.epochs}"
    found = progress(loader, what, unit="batch") if rank() == 0 else loader
    for at, images in enumerate(found, start=state.batches_done):
        if saved_every and at and at % saved_every == 0:
            epoch.seed_torch(at)
        if fitting.rows is not None and at % schedule.accumulate == 0:
            part = epoch.part(network.head, at)
        classes = torch.from_numpy(epoch.classes[epoch.batches[at]]).to(network.device)
        stepping = (at + 1) % schedule.accumulate == 0 or at + 1 == batches
        with fitting.spread.shared(stepping):
            casting = autocast(network.device, epoch.precision)
            seen = fitting.spread.seen(as_laid_out(images, network.device), casting)
            loss = network.loss(gathered(seen), classes, part)
            together = min(schedule.accumulate, batches - at + at % schedule.accumulate)  # the last step may have fewer
            (loss / together).backward()  # type: ignore[no-untyped-call]
        state.losses.append(finite(loss.item(), epoch, at))
        if stepping:
            make_step(fitting, part, schedule, epoch.number * steps + at // schedule.accumulate, steps)
        if saved_every and (at + 1) % saved_every == 0 and at + 1 < batches:
            state.save()
    return float(np.mean(state.losses))


def finite(loss: float, epoch: Epoch, batch: int) -> float:
    """The loss of a batch as it is. Raises ValueError, with the params that hold training back, if it is no number."""
    if math.isfinite(loss):
        return loss
    where = f"train.{epoch.params.schedule_name}"
    raise ValueError(
        f"training diverged: the loss of epoch {epoch.number + 1}, batch {batch + 1} is {loss}; lower "
        f"{where}.head_lr or {where}.backbone_lr, or set {where}.clip_norm (lower, if it is set)"
    )


def make_step(fitting: Fitting, part: Part | None, schedule: Schedule, step: int, steps: int) -> None:
    """Change the weights by their gradients, at `step` of all epochs of `steps` each."""
    network = fitting.network
    share = set_rates(fitting.optimiser, schedule, step, steps)
    clip_gradients(fitting.optimiser, schedule.clip_norm)
    if fitting.row_average is not None and part is not None:
        fitting.row_average.catch_up(network.head, part.chosen)
    fitting.optimiser.step()
    fitting.optimiser.zero_grad(set_to_none=True)
    if fitting.rows is not None and part is not None:
        fitting.rows.step(part, share)
    if fitting.average is not None:
        fitting.average.update_parameters(network if fitting.rows is None else network.embedder)
    if fitting.row_average is not None and part is not None:
        fitting.row_average.update(network.head, part.chosen)


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
    """GAP and accuracy of the network's own scores on landmark photos of known classes and on distractors.

    Several processes look at a part of the photos each, and all know the figures of all.
    """
    landmarks = int((side.classes >= 0).sum())
    if landmarks == 0:
        return {"validation_gap": 0.0, "validation_accuracy": 0.0}
    network.eval()
    own = np.arange(rank(), len(side.classes), world())
    places = [side.locations[at] for at in own.tolist()]
    loader = plain_batches(places, network.embedder.config.preprocessing, schedule.batch_size)
    scores, best = best_of(network, (network.seen(batch, precision) for batch in loader))
    found = np.zeros((len(side.classes), 2))
    # A float64 holds every class number exactly. Each row is of one process, so that the sum is it.
    found[own] = np.stack([scores, best], axis=1)
    found = summed_up(torch.from_numpy(found)).numpy()
    right = found[:, 1] == side.classes
    return {
        "validation_gap": gap_of(found[:, 0], right, landmarks, np.arange(len(right))),
        "validation_accuracy": float(right.sum() / landmarks),
    }


def best_of(network: Network, batches: Iterable[Seen]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The score and number of each photo's best class, float64 and int64 [photos].

    Few classes are compared batch by batch; of many, a block at a time with as many photos as VALIDATED_TOGETHER, since
    each block has to be read from memory and made unit vectors anew.
    """
    found: list[tuple[Tensor, Tensor]] = []
    waiting: list[Seen] = []
    for seen in batches:
        waiting.append(seen)
        few = seen.scores is not None or network.head.classes <= CLASS_BLOCK
        if few or sum(len(s.features) for s in waiting) >= VALIDATED_TOGETHER:
            found.append(network.best(waiting))
            waiting = []
    if waiting:
        found.append(network.best(waiting))
    if not found:
        return np.zeros(0), np.zeros(0, np.int64)
    scores, best = (torch.cat(parts).cpu().numpy() for parts in zip(*found, strict=True))
    return scores.astype(np.float64), best


def start(network: Network, side: Photos, params: TrainParams, precision: str) -> NDArray[np.float32]:
    """Look at photos with the backbones as they come: set neck and head from them if `starts_from_features`.

    Returns the classes' mean features, float32 [classes, width], which the sampler `subspaces` wants; of width 0 where
    nobody does, and no photo is looked at.
    """
    classes = int(side.classes.max()) + 1
    from_features = starts_from_features(params)
    if not from_features and params.schedule.sampler.name != "subspaces":
        return np.zeros((classes, 0), np.float32)
    features, labels = pooled_features(network.embedder.eval(), side, params, precision)
    if from_features:
        start_neck(network.embedder.neck, features.numpy())
        with torch.no_grad():
            network.head.start(network.embedder.neck(features.to(network.device)), labels)
    return class_means(features, labels, torch.zeros(classes, features.shape[1])).numpy()


def unfitted(embedder: Embedder, side: Photos, params: TrainParams, precision: str) -> Embedder:
    """The backbones as they come, in eval mode, with a linear neck that whitens and reduces what they see."""
    if params.neck == "linear" and starts_from_features(params):
        lay_out(embedder.eval(), best_device())
        features, _ = pooled_features(embedder, side, params, precision)
        lay_back(embedder)
        start_neck(embedder.neck, features.numpy())
    return embedder.eval()


def starts_from_features(params: TrainParams) -> bool:
    """Whether neck and head begin where the pretrained backbones' features leave off."""
    return params.start == "features" and params.weights != "none" and params.neck in STARTED


@torch.no_grad()
def pooled_features(embedder: Embedder, side: Photos, params: TrainParams, precision: str) -> tuple[Tensor, Tensor]:
    """Pooled features float32 [photos, width] and classes int64 [photos] of the photos that a start looks at."""
    device, batch_size = next(embedder.parameters()).device, params.schedule.batch_size
    chosen = looked_at(side.classes)
    places = [side.locations[i] for i in chosen.tolist()]
    loader = plain_batches(places, embedder.config.preprocessing, batch_size)
    batches = progress(loader, "start", -(-len(places) // batch_size), "batch")
    with autocast(device, precision):
        pooled = [embedder.pooled(batch.to(device)).float().cpu() for batch in batches]
    return torch.cat(pooled), torch.from_numpy(side.classes[chosen])


def looked_at(classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Up to START_PHOTOS positions, or one of each class where there are more: as many of each as can be, in order."""
    most = max(START_PHOTOS, len(np.unique(classes)))
    return np.sort(np.argsort(earlier_alike(classes), kind="stable")[:most])
