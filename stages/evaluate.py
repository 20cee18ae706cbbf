"""evaluate: ask the index about every test query and measure the answers.

Writes the figures (GAP, accuracy, recall, mAP, coverage), the same without distractors, per landmark and by class size,
and beside them those of the baseline: the untrained network with plain nearest neighbours. The answer's threshold is
chosen on the validation side. Makes build/evaluation/ (predictions.parquet, answer.json) and build/pictures/evaluate/.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from cairn.embedding import read_embeddings
from cairn.evaluation import MAP_DEPTH, Judged, figures, judge, report, with_threshold
from cairn.files import write_json, write_table, written_aside
from cairn.manifest import as_image_id, as_number, read_landmarks
from cairn.metrics.coverage import Curve, precision_coverage
from cairn.params import EvaluateParams
from cairn.photos import decode
from cairn.pictures.answers import counts, draw_answers
from cairn.pictures.class_sizes import class_sizes
from cairn.retrieval.answer import AnswerRule
from cairn.retrieval.index import PhotoIndex, build_index
from cairn.shards import ShardReader
from cairn.sides import DATABASE, Sides, image_numbers, read_sides
from cairn.stage import CLEAN, EVALUATION, INDEX, PICTURES, REPORTS, TRAINED, UNTRAINED, Job, Report, run, use_threads
from cairn.tables import write_csv

CURVE = REPORTS / "evaluate" / "precision_coverage.csv"


def evaluate(job: Job) -> Report:
    use_threads(job.params)
    params = job.params.evaluate
    sides = read_sides()
    index = PhotoIndex.open(INDEX)
    vectors = read_embeddings(TRAINED, sides.images["shard"].to_pylist())
    rule, test = answers(sides, vectors, index, params.answer, params)
    landmarks = read_landmarks(CLEAN)
    names = dict(zip(landmarks["landmark_id"].to_pylist(), landmarks["name"].to_pylist(), strict=True))
    relevant = in_index(sides, test)
    content = report(test, relevant, rule, names)
    if job.params.embed.baseline:
        content["baseline"] = baseline(sides, params)
    curve = precision_coverage(test.scores, test.right, test.landmark_queries)
    write_outs(test, rule, curve)
    with written_aside(PICTURES / "evaluate") as folder, ShardReader(CLEAN) as reader:
        read = image_reader(sides, reader, job.params.clean.short_side, job.params.clean.max_megapixels)
        class_sizes(counts(sides.landmark_ids), folder / "class_sizes.png", "Photos per landmark after cleaning")
        draw_answers(test, curve, rule, names, read, folder, params.target_precision)
    return Report(
        content,
        pictures=sorted((PICTURES / "evaluate").iterdir()),
        datasets={"predictions": EVALUATION / "predictions.parquet"},
    )


def answers(
    sides: Sides, vectors: NDArray[np.float32], index: PhotoIndex, kind: str, params: EvaluateParams
) -> tuple[AnswerRule, Judged]:
    """The rule, its threshold chosen on the validation side, and the test queries judged by it."""
    rule = AnswerRule(
        answer=kind,  # type: ignore[arg-type]
        neighbours=params.neighbours,
        vote_neighbours=params.vote_neighbours,
        vote_power=params.vote_power,
        threshold=0.0,
    )
    ids = image_numbers(sides.images)

    def judged(side: str) -> Judged:
        rows = sides.rows(side, distractors=True)
        found = index.search(vectors[rows], max(MAP_DEPTH, rule.neighbours))
        return judge(found, ids[rows], sides.landmark_ids[rows], rule)

    return with_threshold(rule, judged("validation"), params.target_precision), judged("test")


def baseline(sides: Sides, params: EvaluateParams) -> dict[str, float | int]:
    """The figures of the untrained network with plain nearest neighbours over the same photos."""
    vectors = read_embeddings(UNTRAINED, sides.images["shard"].to_pylist())
    rows, ids = sides.rows(*DATABASE), image_numbers(sides.images)
    index = PhotoIndex(build_index(vectors[rows], ids[rows], "Flat", None), ids[rows], sides.landmark_ids[rows])
    rule, test = answers(sides, vectors, index, "nearest", params)
    return figures(test, in_index(sides, test), rule.threshold)


def in_index(sides: Sides, test: Judged) -> NDArray[np.int64]:
    """How many index photos show each query's landmark."""
    known, sizes = np.unique(sides.landmark_ids[sides.rows(*DATABASE)], return_counts=True)
    at = np.searchsorted(known, test.true).clip(0, len(known) - 1)
    return np.where(known[at] == test.true, sizes[at], 0).astype(np.int64)


def write_outs(test: Judged, rule: AnswerRule, curve: Curve) -> None:
    """predictions.parquet, answer.json, and the curve for `dvc plots`."""
    with written_aside(EVALUATION) as folder:
        folder.mkdir()
        columns = {
            "image_id": [as_image_id(i) for i in test.image_ids.tolist()],
            "true_landmark_id": test.true,
            "landmark_id": test.landmark_ids,
            "score": test.scores,
            "answered": test.scores >= rule.threshold,
            "nearest": [as_image_id(i) for i in test.found.image_ids[:, 0].tolist()],
        }
        write_table(folder / "predictions.parquet", pa.table(columns).sort_by("image_id"))
        write_json(folder / "answer.json", rule.model_dump())
    points = zip(curve.coverage.tolist(), curve.precision.tolist(), curve.thresholds.tolist(), strict=True)
    names = ("coverage", "precision", "threshold")
    write_csv(CURVE, names, [dict(zip(names, point, strict=True)) for point in points])


def image_reader(sides: Sides, reader: ShardReader, short_side: int, max_megapixels: float):  # type: ignore[no-untyped-def]
    """A function from image number to the cleaned photo."""
    columns = (sides.images[name].to_pylist() for name in ("image_id", "shard", "offset", "size"))
    places = {as_number(i): (shard, offset, size) for i, shard, offset, size in zip(*columns, strict=True)}

    @cache
    def read(number: int) -> Image.Image:
        return decode(reader.read(*places[number]), short_side, max_megapixels)

    return read


if __name__ == "__main__":
    run("evaluate", evaluate, __doc__)
