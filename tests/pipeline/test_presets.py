"""Every experiment by its name, all nine stages by DVC, on the embedded data at a small size and in two epochs.

What it shows is that each one runs; their published backbones and weights need a model hub, which tests do without.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from whole.project import ROOT, TINY_DATA, clone, repro

from cairn.composing import compose

PRESETS = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))
DATA = [line for line in TINY_DATA if line.startswith(("fetch.", "clean."))]
CLASSIFIERS = ("vgg16", "vgg16-faithful", "abn", "abn-faithful")  # the network's head answers alone


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clone(tmp_path_factory.mktemp("presets"))


@pytest.mark.parametrize("preset", PRESETS)
def test_it_runs_by_name(folder: Path, preset: str) -> None:
    draws = [*DATA, "fetch.synthetic.images=160", "evaluate.draws=1"]
    compose(folder, folder / "params.yaml", [f"experiment={preset}", "budget=small", *draws])
    repro(folder)
    train, evaluate, export = (
        json.loads((folder / "reports" / f"{stage}.json").read_text()) for stage in ("train", "evaluate", "export")
    )
    assert 0 <= evaluate["gap"] <= 1
    assert set(evaluate["at_most"]) == {"5", "1"}
    assert train["epochs"] == (0 if preset == "baseline" else 2)
    assert export["parity"]["fp32"]["least_cosine"] > 0.999
    assert ("served" in evaluate) == preset.startswith("efficientnet-delf")
    if "served" in evaluate:
        assert ("calibration" in evaluate["served"]) == ("calibration" in evaluate)
    steps = [step["name"] for step in json.loads((folder / "triton_repo/retrieve/1/answer.json").read_text())["steps"]]
    assert "local_features" not in steps
    assert (steps == ["classify"]) == (preset in CLASSIFIERS)
