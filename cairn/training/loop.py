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
from torch.utils.data import DataLoader

from cairn.losses import LOSSES
from cairn.losses.arcface import ArcFace
from cairn.metrics.gap import gap_of
from cairn.networks.embedder import Embedder, embed_batch
from cairn.params import Schedule, TrainParams
from cairn.progress import progress
from cairn.training.checkpoint import load_checkpoint, save_checkpoint
from cairn.training.photos import AugmentedPhotos, Location, ShuffledOnce, plain_batches
from cairn.training.schedule import warmup_cosine
from cairn.training.start import start_head, start_neck

CLIP_NORM = 5.0
START_PHOTOS = 20_000


@dataclass(frozen=True)
class Photos:
    """Photos of one side with their class numbers, -1 for a distractor."""

    locations: Sequence[Location]
    classes: NDArray[np.int64]


@dataclass(frozen=True)
class Trained:
    """What training gives: the embedder at its best epoch, and one row an epoch."""

    embedder: Embedder
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
    """
    schedule = params.schedule
    classes = int(train_side.classes.max()) + 1
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if schedule.epochs == 0:
        return Trained(embedder.eval(), [], 0)
    torch.manual_seed(seed)
    head = LOSSES[params.loss](embedder.config.dimensions, classes, schedule)
    embedder, head = embedder.to(device), head.to(device)
    optimiser = make_optimiser(embedder, head, schedule)
    photos = AugmentedPhotos(
        train_side.locations, train_side.classes.tolist(), embedder.config.preprocessing, schedule, seed
    )
    order = ShuffledOnce(len(photos), seed)
    batch_size = min(schedule.batch_size, len(photos))
    loader = DataLoader(photos, batch_size, sampler=order, num_workers=params.workers, drop_last=True)
    state = _State(embedder, head, optimiser, keep / "checkpoint.pt")
    if params.weights != "none" and state.epochs_done == 0:
        start_from_features(embedder, head, train_side, schedule.batch_size)
    for epoch in range(state.epochs_done, schedule.epochs):
        if state.epochs_since_best() >= params.patience:
            break
        photos.epoch = order.epoch = epoch
        torch.manual_seed(seed * 100_003 + epoch)
        loss = run_epoch(embedder, head, optimiser, loader, schedule, epoch, precision)
        row = {"epoch": float(epoch + 1), "train_loss": loss, **validate(embedder, head, validation_side, schedule)}
        state.finish_epoch(row)
        on_epoch(row)
    embedder.load_state_dict(state.best)
    return Trained(embedder.cpu().eval(), state.history, state.best_epoch())


class _State:
    """Network, head, optimiser and history, as they are saved and found again."""

    def __init__(self, embedder: Embedder, head: nn.Module, optimiser: torch.optim.Optimizer, path: Path) -> None:
        self.parts: dict[str, Any] = {"embedder": embedder, "head": head, "optimiser": optimiser}
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
            self.best = copy.deepcopy({k: v.cpu() for k, v in self.parts["embedder"].state_dict().items()})
        saved = {name: part.state_dict() for name, part in self.parts.items()}
        save_checkpoint(self.path, {**saved, "history": self.history, "best": self.best})


def make_optimiser(embedder: Embedder, head: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    """AdamW, the backbone at a learning rate of its own; norms and biases are not decayed."""
    if schedule.backbone_lr == 0:
        embedder.backbone.requires_grad_(False)
    groups = []
    rated = ((embedder.backbone, schedule.backbone_lr), (embedder.pooling, schedule.head_lr))
    for module, rate in (*rated, (embedder.neck, schedule.head_lr), (head, schedule.head_lr)):
        wanted = [p for p in module.parameters() if p.requires_grad]
        for decay, chosen in (
            (schedule.weight_decay, [p for p in wanted if p.ndim > 1]),
            (0.0, [p for p in wanted if p.ndim <= 1]),
        ):
            if chosen:
                groups.append({"params": chosen, "lr": rate, "full_lr": rate, "weight_decay": decay})
    return torch.optim.AdamW(groups)


def run_epoch(
    embedder: Embedder,
    head: ArcFace,
    optimiser: torch.optim.Optimizer,
    loader: DataLoader[tuple[Tensor, int]],
    schedule: Schedule,
    epoch: int,
    precision: str,
) -> float:
    """One pass over the training photos; the mean loss."""
    set_training(embedder, schedule)
    head.train()
    device = next(embedder.parameters()).device
    steps = len(loader)
    losses = []
    for step, (images, classes) in enumerate(progress(loader, f"epoch {epoch + 1}/{schedule.epochs}", unit="batch")):
        share = warmup_cosine(epoch * steps + step, schedule.epochs * steps, round(schedule.warmup_epochs * steps))
        for group in optimiser.param_groups:
            group["lr"] = share * group["full_lr"]
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            embeddings = embedder(images.to(device))
        loss = head(embeddings.float(), classes.to(device))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        for group in optimiser.param_groups:
            nn.utils.clip_grad_norm_(group["params"], CLIP_NORM)
        optimiser.step()
        losses.append(loss.item())
    return float(np.mean(losses))


def set_training(embedder: Embedder, schedule: Schedule) -> None:
    """Train mode, but for the backbone's batch norms where their statistics are to be trusted."""
    embedder.train()
    if schedule.backbone_lr == 0:
        embedder.backbone.eval()
    if schedule.batch_norm == "eval":
        for module in embedder.backbone.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


@torch.inference_mode()
def validate(embedder: Embedder, head: ArcFace, side: Photos, schedule: Schedule) -> dict[str, float]:
    """GAP and accuracy of the head's own cosines on landmark photos of known classes and on distractors."""
    landmarks = int((side.classes >= 0).sum())
    if landmarks == 0:
        return {"validation_gap": 0.0, "validation_accuracy": 0.0}
    embedder.eval()
    head.eval()
    loader = plain_batches(side.locations, embedder.config.preprocessing, schedule.batch_size, 0)
    found = [head.cosines(embed_batch(embedder, batch).to(head.weight.device)).max(dim=1) for batch in loader]
    scores = torch.cat([f.values for f in found]).cpu().numpy().astype(np.float64)
    right = torch.cat([f.indices for f in found]).cpu().numpy() == side.classes
    return {
        "validation_gap": gap_of(scores, right, landmarks, np.arange(len(scores))),
        "validation_accuracy": float(right.sum() / landmarks),
    }


@torch.no_grad()
def start_from_features(embedder: Embedder, head: ArcFace, side: Photos, batch_size: int) -> None:
    """Set neck and head from the pretrained backbone's features of up to START_PHOTOS photos."""
    embedder.eval()
    device = head.weight.device
    chosen = np.linspace(0, len(side.locations) - 1, min(START_PHOTOS, len(side.locations))).astype(int)
    loader = plain_batches([side.locations[i] for i in chosen], embedder.config.preprocessing, batch_size, 0)
    features = torch.cat([embedder.pooled(batch.to(device)).cpu() for batch in progress(loader, "start", unit="batch")])
    start_neck(embedder.neck, features.numpy())
    embeddings = nn.functional.normalize(embedder.neck(features.to(device)), dim=1)
    start_head(head, embeddings, side.classes[chosen])
