"""evaluate: ask the index about every test query and measure the answers.

Writes the figures (GAP, accuracy, recall, mAP, coverage), the same without distractors, on the validation side, with
few index photos a landmark, per landmark and by class size, and those of the baseline: the untrained network with plain
nearest neighbours. The answer's threshold, the calibration of its score and what re-rankers learn come from the
validation side. Where a step cannot be served, the server gets a rule without it, whose figures are told too. Makes
build/evaluation/ (predictions.parquet, answer.json, context/) and build/pictures/evaluate/.
"""

from __future__ import annotations

from dataclasses import replace

from cairn.evaluation import figures, predictions, report
from cairn.files import write_form, write_table, written_aside
from cairn.local_photos import local_steps, with_features
from cairn.manifest import names_of, read_landmarks
from cairn.metrics.calibration import reliability
from cairn.metrics.coverage import Curve, precision_coverage
from cairn.pictures.answers import counts, draw_answers
from cairn.pictures.class_sizes import class_sizes
from cairn.pictures.matches import draw_matches
from cairn.pictures.photos import open_photos
from cairn.pictures.reliability import reliability_diagram
from cairn.queries import (
    Embedded,
    Gallery,
    ask,
    asked_as_served,
    at_most,
    baseline,
    by_training,
    calibration_report,
    in_gallery,
    validation_figures,
)
from cairn.retrieval.answer import ANSWER_FILE
from cairn.retrieval.context import CONTEXT_FOLDER, save_context
from cairn.retrieval.index import PhotoIndex
from cairn.retrieval.rerankers.base import Context
from cairn.retrieval.rerankers.classifier import CLASSIFIER_FILE, open_classifier
from cairn.retrieval.vectors import Vectors
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
    shards = sides.images["shard"]
    photos = Embedded(sides, Vectors.open(TRAINED, shards))
    given = Context(classifier=open_classifier(MODEL / CLASSIFIER_FILE) if (MODEL / CLASSIFIER_FILE).exists() else None)
    given = with_features(given, sides, params.rerank, job.params)
    gallery = Gallery(PhotoIndex.open(INDEX), sides.rows(*DATABASE))
    asked = ask(photos, gallery, params.rerank, job.params, given)
    served = asked_as_served(photos, gallery, asked, job.params, given)
    rule, test, probabilities = asked.rule, asked.test, asked.probabilities
    names = names_of(read_landmarks(CLEAN))
    relevant = in_gallery(sides, gallery.rows, test)
    content = {
        **report(test, relevant, rule, names),
        **by_training(sides, test),
        "validation": validation_figures(sides, gallery, asked),
        "at_most": at_most(photos, params.rerank, job.params, replace(given, watch=None), job.keep),
    }
    content |= calibration_report(asked)
    if served is not asked:
        content["served"] = {**figures(served.test, relevant, served.rule.threshold), **calibration_report(served)}
    if job.params.embed.baseline:
        content["baseline"] = baseline(Embedded(sides, Vectors.open(UNTRAINED, shards)), job.params, job.keep)
    curve = precision_coverage(test.scores, test.right, test.landmark_queries)
    with written_aside(EVALUATION) as folder:
        folder.mkdir()
        write_table(folder / "predictions.parquet", predictions(test, rule.threshold, probabilities))
        write_form(folder / ANSWER_FILE, served.rule)
        numbers = image_numbers(sides.images)[gallery.rows]
        save_context(folder / CONTEXT_FOLDER, served.rule.steps, served.context, numbers, photos.vectors, gallery.rows)
    write_curve(curve)
    with written_aside(PICTURES / "evaluate") as folder:
        class_sizes(counts(sides.landmark_ids), folder / "class_sizes.png", "Photos per landmark after cleaning")
        with open_photos(CLEAN, sides.images, clean.short_side, clean.max_megapixels) as read:
            draw_answers(test, curve, rule, names, read, folder, params.target_precision)
            for step in local_steps(rule.steps)[:1]:
                draw_matches(test, step, asked.context, names, read, folder / "matches.png")
        if probabilities is not None:
            reliability_diagram(reliability(probabilities, test.right), folder / "reliability.png", "Reliability")
    pictures = sorted((PICTURES / "evaluate").iterdir())
    return Report(content, pictures=pictures, datasets={"predictions": EVALUATION / "predictions.parquet"})


def write_curve(curve: Curve) -> None:
    points = zip(curve.coverage.tolist(), curve.precision.tolist(), curve.thresholds.tolist(), strict=True)
    names = ("coverage", "precision", "threshold")
    write_csv(CURVE, names, [dict(zip(names, point, strict=True)) for point in points])


if __name__ == "__main__":
    run("evaluate", evaluate, __doc__)
