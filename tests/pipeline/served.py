"""Hold what a real server answers against what `evaluate` wrote down, in a folder where the pipeline has run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from cairn.client import Answer, Client
from cairn.files import read_json
from cairn.manifest import read_images
from cairn.retrieval.vectors import Vectors
from cairn.serving.server import default_server_env, running_server
from cairn.shards import ShardReader

NEAR = 0.01  # of a score: embeddings are float16 on disk, and the server's come from ONNX Runtime


class Comparison(NamedTuple):
    """Of the photos of the test side, as raw as they were fetched."""

    photos: int
    least_cosine: float  # of a served embedding and the evaluated one
    largest_score_difference: float
    at_threshold: int  # photos whose score is no further from the threshold than that: either answer is right
    other_answers: int  # of the other photos, those with another landmark, or one where the other has none
    same_nearest: float  # share of photos with the same first neighbour


def tested(project: Path) -> tuple[list[dict[str, Any]], list[bytes]]:
    """What `evaluate` predicted of each photo of the test side, and these photos as raw as they were fetched."""
    raw = project / "build" / "raw"
    rows = pq.read_table(project / "build" / "evaluation" / "predictions.parquet").to_pylist()
    places = {row["image_id"]: row for row in read_images(raw).to_pylist()}
    with ShardReader(raw) as reader:
        found = (places[row["image_id"]] for row in rows)
        return rows, [reader.read(place["shard"], place["offset"], place["size"]) for place in found]


def compare(project: Path) -> Comparison:
    """Start a server on the project's triton_repo/ and ask it about every photo of the test side."""
    rows, photos = tested(project)
    cleaned = read_images(project / "build" / "clean")
    vectors = Vectors.open(project / "build" / "embeddings" / "network", cleaned["shard"])
    by_id = dict(zip(cleaned["image_id"].to_pylist(), vectors[np.arange(len(cleaned))], strict=True))
    with running_server(project / "triton_repo", default_server_env()) as address, Client(address, 300.0) as client:
        outcomes, served = client.query(photos), client.embeddings(photos)
    answers = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
    assert len(answers) == len(rows), [str(outcome) for outcome in outcomes if not isinstance(outcome, Answer)]
    threshold = float(read_json(project / "build" / "evaluation" / "answer.json")["threshold"])
    wanted = [row["landmark_id"] if row["answered"] else None for row in rows]
    evaluated = np.stack([by_id[row["image_id"]] for row in rows])
    pairs = list(zip(rows, answers, strict=True))
    difference = max(abs(row["score"] - answer.score) for row, answer in pairs)
    close = [abs(row["score"] - threshold) <= difference for row in rows]
    return Comparison(
        photos=len(rows),
        least_cosine=float((served * evaluated).sum(axis=1).min()),
        largest_score_difference=difference,
        at_threshold=sum(close),
        other_answers=sum(a.landmark_id != w and not c for a, w, c in zip(answers, wanted, close, strict=True)),
        same_nearest=float(np.mean([row["nearest"] == answer.neighbours[0].image_id for row, answer in pairs])),
    )


def check(found: Comparison) -> None:
    """Assert that what is served is what was evaluated."""
    assert found.least_cosine >= 0.999, found
    assert found.largest_score_difference <= NEAR, found
    assert found.other_answers == 0, found
    # float16 may turn two neighbours around that are equally near.
    assert found.same_nearest >= 0.95, found
