"""The whole check of a raw folder: the frame, the suite over it, and counts worth reporting."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cairn.checks.decoding import DECODED
from cairn.checks.frame import checked_frame
from cairn.checks.result import CheckResult
from cairn.checks.suite import run_suite
from cairn.manifest import read_images
from cairn.params import ValidateParams


def check(raw: Path, params: ValidateParams, docs: Path, seed: int, max_megapixels: float) -> CheckResult:
    """Check manifest, labels and shards in `raw`, and write Data Docs into `docs` (with times and run ids: no out).

    Raises ManifestError if a table is missing or not what its schema says, ShardError if a shard cannot be read.
    """
    frame, landmarks = checked_frame(raw, params, np.random.default_rng(seed), max_megapixels)
    found = run_suite(frame, params, docs, partial(_files, raw))
    return CheckResult(all(item.passed for item in found), found, _facts(frame, landmarks))


def _files(raw: Path, image_ids: Sequence[str]) -> dict[str, str]:
    """What the photos are called where they came from."""
    images = read_images(raw).select(["image_id", "source_name"])
    few = images.filter(pc.is_in(images["image_id"], value_set=pa.array(image_ids, pa.string())))
    return dict(zip(*few.to_pydict().values(), strict=True))


def _facts(frame: pd.DataFrame, landmarks: pa.Table) -> dict[str, int | float]:
    shown = frame["landmark_id"].dropna()
    tried = frame["decoding"].dropna()
    undecodable = int((tried != DECODED).sum())
    return {
        "images": len(frame),
        "distractors": len(frame) - len(shown),
        "landmarks": landmarks.num_rows,
        "landmarks_without_photos": landmarks.num_rows - int(np.isin(landmarks["landmark_id"], shown.unique()).sum()),
        "shards": int(frame["shard"].nunique()),
        "bytes": int(frame["size"].sum()),
        "sampled": len(tried),
        "undecodable": undecodable,
        "decodable_share": 1 - undecodable / max(1, len(tried)),
    }
