"""Weights, models and everything else that is read are data: no file that Cairn opens can run code.

One test reads the sources, the other has every reader try a file that would leave a trace if its code ran.
"""

from __future__ import annotations

import ast
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from cairn.networks.backbones import BackboneError, make_backbone
from cairn.networks.keypoints.aliked import load_aliked
from cairn.retrieval.context import open_context
from cairn.retrieval.rerankers.classifier import open_classifier
from cairn.retrieval.rerankers.prototypes import Prototypes
from cairn.training.checkpoint import CheckpointError, load_checkpoint

ROOT = Path(__file__).parents[1]
SOURCES = [
    path for folder in ("cairn", "stages", "triton_repo", "benchmarks") for path in (ROOT / folder).rglob("*.py")
]

UNPICKLING = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
RUNNING = {"eval", "exec", "read_pickle", "unsafe_load", "load_model_from_code"}


def code_readers(source: str) -> Iterator[str]:
    """What in a source may run code that a file holds, with its line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {(node.module or "").split(".")[0]}
        else:
            names = set()
        yield from (f"line {node.lineno}: import {name}" for name in names & UNPICKLING)  # type: ignore[attr-defined]
        if isinstance(node, ast.Call):
            yield from _risky_call(node)


def _risky_call(call: ast.Call) -> Iterator[str]:
    name = ast.unparse(call.func)
    options = {option.arg: ast.unparse(option.value) for option in call.keywords}
    is_method = isinstance(call.func, ast.Attribute)
    if name.split(".")[-1] in RUNNING and not (is_method and name.endswith((".eval", ".exec"))):
        yield f"line {call.lineno}: {name}"
    if name == "torch.load" and options.get("weights_only") != "True":
        yield f"line {call.lineno}: torch.load without weights_only"
    if options.get("allow_pickle", "False") != "False" or options.get("weights_only", "True") != "True":
        yield f"line {call.lineno}: {name} takes code"


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "pd.read_pickle(path)",
        "eval(text)",
    ],
)
def test_what_reads_code_is_seen(source: str) -> None:
    assert list(code_readers(source))


def test_no_source_reads_code() -> None:
    assert len(SOURCES) > 150
    found = {str(path.relative_to(ROOT)): list(code_readers(path.read_text())) for path in SOURCES}
    assert {name: lines for name, lines in found.items() if lines} == {}


class Bait:
    """Pickled, it makes a file when it is read as code."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        return Path.touch, (self.trace,)


def _pickled(path: Path, bait: Bait) -> None:
    path.write_bytes(pickle.dumps(bait))


def _torch(path: Path, bait: Bait) -> None:
    torch.save({"network": bait}, path)


def _array(path: Path, bait: Bait) -> None:
    with path.open("wb") as file:
        np.save(file, np.array([bait], dtype=object), allow_pickle=True)


def _arrays(path: Path, bait: Bait) -> None:
    names = ("landmark_ids", "vectors", "photos", "kind", "weights", "scale")
    with path.open("wb") as file:
        np.savez(file, allow_pickle=True, **dict.fromkeys(names, np.array([bait], dtype=object)))


def _as_distractors(path: Path) -> object:
    distractors = open_context(path.rename(path.with_name("distractors.npy")).parent).distractors
    return np.linalg.norm(np.asarray(distractors))  # of a zip numpy reads nothing before it is asked for something


@pytest.mark.parametrize("write", [_pickled, _torch, _array, _arrays])
@pytest.mark.parametrize(
    ("read", "kind"),
    [
        (load_checkpoint, CheckpointError),
        (lambda path: make_backbone("test_resnet", str(path.rename(path.with_suffix(".pth"))), 32), BackboneError),
        (
            lambda path: make_backbone("test_resnet", str(path.rename(path.with_suffix(".safetensors"))), 32),
            BackboneError,
        ),
        (lambda path: load_aliked(str(path), 10), BackboneError),
        (_as_distractors, ValueError),
        (Prototypes.open, ValueError),
        (open_classifier, ValueError),
    ],
    ids=["checkpoint", "pth", "safetensors", "aliked", "context", "prototypes", "classifier"],
)
def test_code_in_a_file_is_not_run(
    tmp_path: Path, write: Callable[[Path, Bait], None], read: Callable[[Path], object], kind: type[Exception]
) -> None:
    trace = tmp_path / "trace"
    write(tmp_path / "given", Bait(trace))
    with pytest.raises(kind):
        read(tmp_path / "given")
    assert not trace.exists()


def test_the_bait_would_be_seen(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bait(tmp_path / "trace")))  # noqa: S301 - what is to be seen
    assert (tmp_path / "trace").exists()
