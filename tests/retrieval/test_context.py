"""A context saved by `evaluate` and opened by the server: its steps answer the same in both environments."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from retrieval.rerankers.small_world import make_world

from cairn.retrieval.context import save_context
from cairn.retrieval.rerankers import Step
from cairn.retrieval.rerankers.boosted import BoostedParams
from cairn.retrieval.rerankers.chain import build_chain, fit_chain
from cairn.retrieval.rerankers.knn_vote import KnnVoteParams
from cairn.retrieval.rerankers.prototypes import prototypes_of
from cairn.retrieval.rerankers.superglobal import SuperGlobalParams
from cairn.serving.server import default_server_env

APPLY = """
import sys
from pathlib import Path
import numpy as np
from pydantic import TypeAdapter
from cairn.retrieval.context import open_context
from cairn.retrieval.neighbours import Neighbours
from cairn.retrieval.rerankers import Step
from cairn.retrieval.rerankers.chain import build_chain
from cairn.retrieval.result import searched
folder = Path(sys.argv[1])
steps = TypeAdapter(tuple[Step, ...]).validate_json((folder / "steps.json").read_text())
with np.load(folder / "queries.npz") as parts:
    result = searched(parts["queries"], Neighbours(parts["image_ids"], parts["landmark_ids"], parts["scores"]))
answers = build_chain(steps, open_context(folder / "context")).process(result).decided
np.savez(folder / "answers.npz", landmark_ids=answers.landmark_ids, scores=answers.scores)
assert "torch" not in sys.modules
print(np.__version__)
"""

CHAINS: dict[str, tuple[Step, ...]] = {
    "boosted": (BoostedParams(rounds=20, leaves=4, min_leaf=3, learning_rate=0.2, folds=3),),
    "prototypes": (KnnVoteParams(top=3, prototype_weight=4),),
    "head": (SuperGlobalParams(top=5), KnnVoteParams(head_power=12)),
}


@pytest.mark.parametrize("name", CHAINS)
def test_the_server_with_its_numpy_answers_the_same(tmp_path: Path, name: str) -> None:
    world, steps = make_world(3, queries=120, spread=0.6), CHAINS[name]
    prototypes = prototypes_of(world.vectors, world.landmark_ids, None)
    context, _ = fit_chain(steps, replace(world.context, prototypes=prototypes), world.result, world.true, 0, 1)
    save_context(tmp_path / "context", steps, context, world.ids, world.vectors)
    (tmp_path / "steps.json").write_text("[" + ",".join(step.model_dump_json() for step in steps) + "]")
    found = world.result.neighbours
    np.savez(tmp_path / "queries.npz", queries=world.result.queries, **vars(found))
    python = default_server_env() / "bin" / "python"
    ran = subprocess.run([python, "-c", APPLY, tmp_path], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("1.26")
    wanted = build_chain(steps, context).process(world.result).decided
    with np.load(tmp_path / "answers.npz") as served:
        assert np.array_equal(served["landmark_ids"], wanted.landmark_ids)
        np.testing.assert_allclose(served["scores"], wanted.scores, rtol=1e-6)
    assert len(set(wanted.landmark_ids.tolist())) > 6
