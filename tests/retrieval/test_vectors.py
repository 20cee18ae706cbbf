"""Vectors read shard by shard, against all of them in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cairn.retrieval.vectors import Vectors

SHARDS = ["one.tar"] * 30 + ["two.tar"] * 1 + ["three.tar"] * 50


def test_any_rows_are_those_of_all(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    parts = {name: rng.normal(size=(SHARDS.count(name), 7)).astype(np.float16) for name in dict.fromkeys(SHARDS)}
    for name, part in parts.items():
        np.save(tmp_path / f"{Path(name).stem}.npy", part)
    long = np.concatenate(list(parts.values())).astype(np.float32)
    whole = long / np.linalg.norm(long, axis=1, keepdims=True)
    vectors = Vectors.open(tmp_path, pa.chunked_array([SHARDS]))
    assert vectors.shape == (81, 7)
    for rows in (np.arange(81), rng.permutation(81)[:20], np.array([80, 0, 30, 30]), np.arange(0)):
        assert np.array_equal(vectors[rows], whole[rows])


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"one.npy: no such file; run `dvc repro embed`"):
        Vectors.open(tmp_path, pa.chunked_array([SHARDS]))
