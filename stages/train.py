"""train: fit the embedding network (timm backbone -> pooling -> neck -> unit vector) on the train side.

train.scratch holds the schedule used without weights, train.finetune the one used with them. A run that was killed
goes on from its last checkpoint. With processes over 1 each has an equal part of every batch: they are started here on
this machine, or by torchrun on several (docs/large.md). Makes build/model/ (safetensors, config, the head as a
classifier), the curve of epochs and, with train.attention, a sheet of what the attention branch looks at.
"""

from __future__ import annotations

from pathlib import Path

import torch

from cairn.files import written_aside
from cairn.locations import Photos
from cairn.manifest import names_of, read_landmarks
from cairn.networks.embedder import Embedder, save_embedder
from cairn.pictures.attention_maps import attention_maps
from cairn.pictures.loss_curves import loss_curves
from cairn.processes import rank, world
from cairn.retrieval.rerankers.classifier import CLASSIFIER_FILE
from cairn.sides import Sides, read_sides, trained_landmarks, training_photos
from cairn.stage import CLEAN, MODEL, PICTURES, REPORTS, Job, Report, StageError, run, use_threads
from cairn.tables import write_csv
from cairn.training.attention_sheet import attention_rows
from cairn.training.classifier import classifier_of
from cairn.training.loop import train
from cairn.training.untrained import new_embedder

HISTORY = REPORTS / "train" / "history.csv"
LOSS = PICTURES / "train" / "loss.png"
ATTENTION = PICTURES / "train" / "attention.png"


def fit(job: Job) -> Report | None:
    if world() != job.params.processes:  # the result depends on it, by rounding, and dvc.lock has to say so
        raise StageError(f"torchrun started {world()} processes and params.yaml has processes: {job.params.processes}")
    use_threads(job.params)
    params = job.params.train
    sides = read_sides()
    train_side, validation_side = training_photos(sides)
    landmark_ids = trained_landmarks(sides)
    torch.manual_seed(job.params.seed)
    embedder = new_embedder(job.params, params.neck, classes=len(landmark_ids))
    trained = train(
        embedder, train_side, validation_side, params, job.params.precision, job.params.seed, job.keep, print_epoch
    )
    if rank() > 0:
        return None
    with written_aside(MODEL) as folder:
        save_embedder(trained.embedder, folder)
        classifier = classifier_of(trained, train_side, landmark_ids)
        if classifier is not None:
            classifier.save(folder / CLASSIFIER_FILE)
    columns = ("epoch", "train_loss", "validation_gap", "validation_accuracy")
    write_csv(HISTORY, columns, trained.history)
    loss_curves(trained.history, LOSS)
    pictures = [LOSS, *draw_attention(trained.embedder, validation_side, sides)]
    content = {
        "backbone": params.backbone,
        "parameters": sum(p.numel() for p in trained.embedder.parameters()),
        "dimensions": trained.embedder.config.dimensions,
        "image_size": trained.embedder.config.preprocessing.size,
        "train_images": len(train_side.locations),
        "classes": len(landmark_ids),
        "validation_images": len(validation_side.locations),
        "epochs": len(trained.history),
        "best_epoch": trained.best_epoch,
        **({} if not trained.history else {"best": trained.history[trained.best_epoch - 1]}),
    }
    return Report(content, history=trained.history, pictures=pictures)


def draw_attention(embedder: Embedder, side: Photos, sides: Sides) -> list[Path]:
    """The sheet of the attention branch, if there is one."""
    if embedder.branches[0].attention is None:
        return []
    names = names_of(read_landmarks(CLEAN))
    rows = attention_rows(embedder, side, [names[landmark] for landmark in trained_landmarks(sides).tolist()])
    attention_maps(rows, ATTENTION, "Where the network looks, and what its attention branch says")
    return [ATTENTION]


def print_epoch(row: dict[str, float]) -> None:
    print("  ".join(f"{name} {value:g}" if name == "epoch" else f"{name} {value:.4f}" for name, value in row.items()))


if __name__ == "__main__":
    run("train", fit, __doc__, several=True)
