"""The pictures of an evaluation: curves and histograms of its scores, and contact sheets of its answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cairn.evaluation import Judged, order_for_people
from cairn.manifest import NONE
from cairn.metrics.coverage import Curve
from cairn.pictures.contact_sheet import SheetRow, contact_sheet
from cairn.pictures.photos import ReadImage
from cairn.pictures.precision_coverage import precision_coverage as draw_precision_coverage
from cairn.pictures.score_histograms import score_histograms
from cairn.retrieval.answer import AnswerRule

ROWS = 10
COLUMNS = 5
TITLES = {
    "surest_right": "Surest right answers",
    "least_sure_right": "Least sure right answers",
    "surest_wrong": "Surest wrong answers",
}


def draw_answers(
    test: Judged, curve: Curve, rule: AnswerRule, names: Mapping[int, str], read: ReadImage, folder: Path, target: float
) -> None:
    """Write every picture of an evaluation into `folder`."""
    draw_precision_coverage(curve, folder / "precision_coverage.png", "Precision and coverage", rule.threshold, target)
    distractor = test.true == NONE
    wrong = ~distractor & ~test.right
    scores = test.scores
    path = folder / "score_histograms.png"
    score_histograms(scores[test.right], scores[wrong], scores[distractor], path, threshold=rule.threshold)
    for name, rows in order_for_people(test).items():
        sheet = [sheet_row(test, row, names, read) for row in rows[:ROWS].tolist()]
        contact_sheet(sheet, folder / f"{name}.png", TITLES[name])


def sheet_row(test: Judged, row: int, names: Mapping[int, str], read: ReadImage) -> SheetRow:
    """One query with its nearest photos."""
    true, given = int(test.true[row]), int(test.landmark_ids[row])
    said = f"shows {name_of(true, names)}\nsaid {name_of(given, names)}\nscore {test.scores[row]:.3f}"
    found = test.found
    nearest = [
        (
            read(int(found.image_ids[row, place])),
            f"{name_of(int(found.landmark_ids[row, place]), names)}\nscore {found.scores[row, place]:.3f}",
            bool(found.landmark_ids[row, place] == true),
        )
        for place in np.flatnonzero(found.landmark_ids[row, :COLUMNS] != NONE).tolist()
    ]
    return SheetRow(read(int(test.image_ids[row])), said, nearest)


def name_of(landmark_id: int, names: Mapping[int, str]) -> str:
    """The landmark's name for people."""
    return "no landmark" if landmark_id == NONE else names.get(landmark_id, str(landmark_id))


def counts(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each landmark comes, NONE left out."""
    return np.unique(values[values != NONE], return_counts=True)[1].astype(np.int64)
