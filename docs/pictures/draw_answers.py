"""Draws docs/pictures/answers.jpg from the last run on the embedded data: `python docs/pictures/draw_answers.py`.

The surest right answer of some landmarks, and the surest wrong one.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from cairn.evaluation import order_for_people
from cairn.manifest import names_of, read_landmarks
from cairn.params import load_params
from cairn.pictures.answers import sheet_row
from cairn.pictures.contact_sheet import contact_sheet
from cairn.pictures.photos import open_photos
from cairn.queries import Embedded, Gallery, ask
from cairn.retrieval.index import PhotoIndex
from cairn.retrieval.rerankers.base import Context
from cairn.retrieval.rerankers.classifier import CLASSIFIER_FILE, open_classifier
from cairn.retrieval.vectors import Vectors
from cairn.sides import DATABASE, read_sides
from cairn.stage import CLEAN, INDEX, MODEL, PARAMS, TRAINED

LANDMARKS = 3


def main() -> None:
    """Draw the picture beside this file."""
    params = load_params(PARAMS)
    if params.fetch.source != "synthetic":
        raise SystemExit("docs show photos of the embedded data alone; set fetch.source to synthetic")
    sides = read_sides()
    photos = Embedded(sides, Vectors.open(TRAINED, sides.images["shard"]))
    gallery = Gallery(PhotoIndex.open(INDEX), sides.rows(*DATABASE))
    given = Context(classifier=open_classifier(MODEL / CLASSIFIER_FILE))
    test = ask(photos, gallery, params.evaluate.rerank, params, given).test
    names = names_of(read_landmarks(CLEAN))
    ordered = order_for_people(test)
    surest = ordered["surest_right"]
    _, first = np.unique(test.landmark_ids[surest], return_index=True)
    rows = [*surest[np.sort(first)[:LANDMARKS]].tolist(), int(ordered["surest_wrong"][0])]
    with (
        tempfile.TemporaryDirectory() as folder,
        open_photos(CLEAN, sides.images, params.clean.short_side, params.clean.max_megapixels) as read,
    ):
        sheet = Path(folder) / "answers.png"
        contact_sheet(
            [sheet_row(test, row, names, read) for row in rows], sheet, "Queries, and the photos found for them"
        )
        Image.open(sheet).convert("RGB").save(Path(__file__).with_name("answers.jpg"), quality=85)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    main()
