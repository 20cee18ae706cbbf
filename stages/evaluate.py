"""evaluate: ask the index about every test query and measure the answers.

Writes the figures (GAP, accuracy, recall, mAP, coverage), the same without distractors, per landmark and by class size,
and beside them those of the baseline: the untrained network with plain nearest neighbours. The answer's threshold, the
calibration of its score and what re-rankers learn come from the validation side. Makes build/evaluation/
(predictions.parquet, answer.json, context/) and build/pictures/evaluate/.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cairn.embedding import read_embeddings
from cairn.evaluation import calibration_figures, report
from cairn.files import write_json, write_table, written_aside
from cairn.manifest import as_image_id, read_landmarks
from cairn.metrics.calibration import reliability
from cairn.metrics.coverage import Curve, precision_coverage
from cairn.pictures.answers import counts, draw_answers
from cairn.pictures.class_sizes import class_sizes
from cairn.pictures.photos import open_photos
from cairn.pictures.reliability import reliability_diagram
from cairn.queries import Asked, ask, baseline, in_index
from cairn.retrieval.answer import ANSWER_FILE
from cairn.retrieval.context import CONTEXT_FOLDER, save_context
from cairn.retrieval.index import PhotoIndex
from cairn.retrieval.rerankers.classifier import CLASSIFIER_FILE, CosineClassifier
from cairn.sides import DATABASE, image_numbers, read_sides
from cairn.stage import (
    CLEAN,
    EVALUATION,
    INDEX,
    MODEL,
    PICTURES,
    REPORTS,
    TRAINED,
    UNTRAINED,
    Job,
    Report,
    run,
    use_threads,
)
from cairn.tables import write_csv

CURVE = REPORTS / "evaluate" / "precision_coverage.csv"


def evaluate(job: Job) -> Report:
    use_threads(job.params)
    params, clean = job.params.evaluate, job.params.clean
    sides = read_sides()
    shards = sides.images["shard"].to_pylist()
    vectors = read_embeddings(TRAINED, shards)
    classifier = CosineClassifier.open(MODEL / CLASSIFIER_FILE) if (MODEL / CLASSIFIER_FILE).exists() else None
    asked = ask(sides, vectors, PhotoIndex.open(INDEX), params.rerank, job.params, classifier)
    rule, test = asked.rule, asked.test
    probabilities = probabilities_of(asked)
    landmarks = read_landmarks(CLEAN)
    names = dict(zip(landmarks["landmark_id"].to_pylist(), landmarks["name"].to_pylist(), strict=True))
    content = report(test, in_index(sides, test), rule, names)
    if probabilities is not None:
        content["calibration"] = calibration_figures(probabilities, test.right)
    if job.params.embed.baseline:
        content["baseline"] = baseline(sides, read_embeddings(UNTRAINED, shards), job.params)
    curve = precision_coverage(test.scores, test.right, test.landmark_queries)
    database = sides.rows(*DATABASE)
    with written_aside(EVALUATION) as folder:
        folder.mkdir()
        write_outs(folder, asked, probabilities)
        numbers = image_numbers(sides.images)[database]
        save_context(folder / CONTEXT_FOLDER, rule.steps, asked.context, numbers, vectors[database])
    write_curve(curve)
    with written_aside(PICTURES / "evaluate") as folder:
        class_sizes(counts(sides.landmark_ids), folder / "class_sizes.png", "Photos per landmark after cleaning")
        with open_photos(CLEAN, sides.images, clean.short_side, clean.max_megapixels) as read:
            draw_answers(test, curve, rule, names, read, folder, params.target_precision)
        if probabilities is not None:
            reliability_diagram(reliability(probabilities, test.right), folder / "reliability.png", "Reliability")
    pictures = sorted((PICTURES / "evaluate").iterdir())
    return Report(content, pictures=pictures, datasets={"predictions": EVALUATION / "predictions.parquet"})


def probabilities_of(asked: Asked) -> NDArray[np.float64] | None:
    """Of each test query, that its answer is right."""
    calibration = asked.rule.calibration
    return None if calibration is None else calibration.probability(asked.test.scores)


def write_outs(folder: Path, asked: Asked, probabilities: NDArray[np.float64] | None) -> None:
    test, rule = asked.test, asked.rule
    columns = {
        "image_id": [as_image_id(i) for i in test.image_ids.tolist()],
        "true_landmark_id": test.true,
        "landmark_id": test.landmark_ids,
        "score": test.scores,
        "probability": pa.nulls(len(test.scores), pa.float64()) if probabilities is None else probabilities,
        "answered": test.scores >= rule.threshold,
        "nearest": [as_image_id(i) for i in test.found.image_ids[:, 0].tolist()],
    }
    write_table(folder / "predictions.parquet", pa.table(columns).sort_by("image_id"))
    write_json(folder / ANSWER_FILE, rule.model_dump())


def write_curve(curve: Curve) -> None:
    points = zip(curve.coverage.tolist(), curve.precision.tolist(), curve.thresholds.tolist(), strict=True)
    names = ("coverage", "precision", "threshold")
    write_csv(CURVE, names, [dict(zip(names, point, strict=True)) for point in points])


if __name__ == "__main__":
    run("evaluate", evaluate, __doc__)
