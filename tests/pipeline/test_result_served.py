"""A finished run of your own photos, named by CAIRN_RESULT (a project's folder), is served as it was evaluated."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pipeline.served import check, compare


@pytest.mark.skipif(
    not os.environ.get("CAIRN_RESULT"), reason="CAIRN_RESULT names no folder where the pipeline has run"
)
def test_answers_and_embeddings_of_the_test_side_are_the_evaluated_ones() -> None:
    found = compare(Path(os.environ["CAIRN_RESULT"]))
    print(found)
    check(found)
