"""train: fit the embedding network (timm backbone -> pooling -> neck -> unit vector) on the train side.

train.scratch holds the schedule used without weights, train.finetune the one used with them. A run that was killed
goes on from its last epoch. Makes build/model/ (safetensors, config, the head as a classifier) and the curve of epochs.
"""

from __future__ import annotations

import torch

from cairn.files import written_aside
from cairn.networks.embedder import save_embedder
from cairn.pictures.loss_curves import loss_curves
from cairn.retrieval.rerankers.classifier import CLASSIFIER_FILE
from cairn.sides import read_sides, trained_landmarks, training_photos
from cairn.stage import MODEL, PICTURES, REPORTS, Job, Report, run, use_threads
from cairn.tables import write_csv
from cairn.training.classifier import classifier_of
from cairn.training.loop import train
from cairn.training.untrained import new_embedder

HISTORY = REPORTS / "train" / "history.csv"
PICTURE = PICTURES / "train" / "loss.png"


def fit(job: Job) -> Report:
    use_threads(job.params)
    params = job.params.train
    torch.manual_seed(job.params.seed)
    embedder = new_embedder(job.params, params.neck)
    sides = read_sides()
    train_side, validation_side = training_photos(sides)
    trained = train(
        embedder, train_side, validation_side, params, job.params.precision, job.params.seed, job.keep, print_epoch
    )
    with written_aside(MODEL) as folder:
        save_embedder(trained.embedder, folder)
        classifier = classifier_of(trained.head, trained_landmarks(sides))
        if classifier is not None:
            classifier.save(folder / CLASSIFIER_FILE)
    columns = ("epoch", "train_loss", "validation_gap", "validation_accuracy")
    write_csv(HISTORY, columns, trained.history)
    loss_curves(trained.history, PICTURE)
    content = {
        "backbone": params.backbone,
        "parameters": sum(p.numel() for p in trained.embedder.parameters()),
        "dimensions": trained.embedder.config.dimensions,
        "image_size": trained.embedder.config.preprocessing.size,
        "train_images": len(train_side.locations),
        "classes": int(train_side.classes.max()) + 1,
        "validation_images": len(validation_side.locations),
        "epochs": len(trained.history),
        "best_epoch": trained.best_epoch,
        **({} if not trained.history else {"best": trained.history[trained.best_epoch - 1]}),
    }
    return Report(content, history=trained.history, pictures=[PICTURE])


def print_epoch(row: dict[str, float]) -> None:
    print("  ".join(f"{name} {value:g}" if name == "epoch" else f"{name} {value:.4f}" for name, value in row.items()))


if __name__ == "__main__":
    run("train", fit, __doc__)
