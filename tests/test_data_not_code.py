"""Weights, models and everything else that is read are data: no file that Cairn opens can run code.

One test reads the sources, the other has every reader try a file that would leave a trace if its code ran.
"""

from __future__ import annotations

import ast
import pickle
from collections.abc import Callable, Mapping
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

UNPICKLING = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
BUILTINS = {"eval", "exec", "__import__"}
TORCH = {"torch.jit.load", "torch.hub.load", "torch.hub.load_state_dict_from_url", "torch.package.PackageImporter"}
RUNNING = {"builtins.eval", "builtins.exec", *TORCH}
# Last parts of names, whatever they are parts of.
LISTS = {f"{way}_object_list" for way in ("broadcast", "scatter", "send", "recv")}
YAML = {"unsafe_load", "unsafe_load_all", "full_load", "full_load_all"}
RUNNING_PARTS = {"read_pickle", "load_model_from_code", "all_gather_object", "gather_object", *LISTS, *YAML}
# Safe if they are called with the right options, and so by nobody else.
TORCH_LOAD, YAML_LOAD = {"torch.load", "torch.serialization.load"}, {"yaml.load", "yaml.load_all"}
SAFE_YAML = {"SafeLoader", "CSafeLoader", "BaseLoader", "CBaseLoader"}


def code_readers(source: str) -> list[str]:
    """What in a source may run code that a file holds, with its line."""
    tree = ast.parse(source)
    names, found = _imported(tree), []
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            risks = [alias.name for alias in node.names if alias.name.split(".")[0] in UNPICKLING]
        elif isinstance(node, ast.ImportFrom):
            risks = [node.module or ""] if (node.module or "").split(".")[0] in UNPICKLING else []
        elif isinstance(node, ast.Call):
            risks = _risky_options(node, names)
        elif isinstance(node, ast.Name | ast.Attribute):
            full = _full_name(node, names)
            passed_on = full in TORCH_LOAD | YAML_LOAD and id(node) not in called
            risks = [full] if passed_on or full in RUNNING or full.split(".")[-1] in RUNNING_PARTS else []
        else:
            continue
        found += [f"line {node.lineno}: {risk}" for risk in risks]
    return found


def _imported(tree: ast.AST) -> dict[str, str]:
    """What a source calls a thing -> the thing's full name."""
    names = {name: f"builtins.{name}" for name in BUILTINS}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
            names |= {first: first for alias in node.names if not alias.asname for first in [alias.name.split(".")[0]]}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _full_name(node: ast.expr, names: Mapping[str, str]) -> str:
    """The name of a thing from its module on; without a beginning for one that is not imported."""
    if isinstance(node, ast.Attribute):
        return f"{_full_name(node.value, names)}.{node.attr}"
    return names.get(node.id, "") if isinstance(node, ast.Name) else ""


def _risky_options(call: ast.Call, names: Mapping[str, str]) -> list[str]:
    """Of a call what may be safe or not, as it is called."""
    name, risks = _full_name(call.func, names), []
    given = {option.arg: ast.unparse(option.value) for option in call.keywords}
    given |= {number: ast.unparse(value) for number, value in enumerate(call.args)}
    if name in TORCH_LOAD and given.get("weights_only") != "True":
        risks.append(f"{name} without weights_only")
    if name == "numpy.load" and given.get(2, "False") != "False":
        risks.append(f"{name} takes code")
    if given.get("allow_pickle", "False") != "False" or given.get("weights_only", "True") != "True":
        risks.append(f"{name} takes code")
    if name in {"ruamel.yaml.YAML", "ruamel.yaml.main.YAML"} and given.get("typ", "'rt'") not in {"'rt'", "'safe'"}:
        risks.append(f"{name} of type {given['typ']}")
    if name in YAML_LOAD and given.get("Loader", given.get(1, "")).split(".")[-1] not in SAFE_YAML:
        risks.append(f"{name} without SafeLoader")
    if name in {"importlib.import_module", "builtins.__import__"} and call.args:
        module = given[0].strip("'\"").split(".")[0]
        risks += [f"{name} of {module}"] if module in UNPICKLING else []
    return risks


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import marshal as m",
        "from joblib import load",
        "from dill import load",
        "import cloudpickle",
        "import shelve",
        "import importlib\nimportlib.import_module('pickle')",
        "from importlib import import_module as get\nget('joblib.numpy_pickle')",
        "__import__('pickle')",
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=False)",
        "import torch\ntorch.load(path, weights_only=given)",
        "import torch as t\nt.load(path)",
        "from torch import load\nload(path)",
        "from torch import load as read\nread(path)",
        "def f():\n    from torch.serialization import load\n    load(path)",
        "import torch\ntorch.jit.load(path)",
        "import torch.jit as jit\njit.load(path)",
        "from torch import hub\nhub.load('owner/repository', 'network')",
        "import torch\nread = torch.hub.load",
        "import torch\nmap(torch.load, paths)",
        "import torch.distributed as dist\ndist.all_gather_object(parts, mine)",
        "from torch.distributed import broadcast_object_list as send\nsend(parts)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import numpy as np\nnp.load(path, None, True)",
        "from numpy import load\nload(path, None, True)",
        "import pandas as pd\npd.read_pickle(path)",
        "from ruamel.yaml import YAML\nYAML(typ='unsafe').load(text)",
        "from ruamel import yaml\nyaml.YAML(typ=kind)",
        "import yaml\nyaml.load(text, Loader=yaml.Loader)",
        "from yaml import load, Loader\nload(text, Loader)",
        "import yaml\nyaml.load(text)",
        "import yaml\nyaml.unsafe_load(text)",
        "eval(text)",
        "exec(text)",
        "import builtins\nbuiltins.eval(text)",
        "import builtins as b\nb.exec(text)",
    ],
)
def test_what_reads_code_is_seen(source: str) -> None:
    assert code_readers(source)


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load(path, weights_only=True)",
        "from torch import load\nload(path, map_location='cpu', weights_only=True)",
        "from json import load\nload(file)",
        "import json as torch_like\ntorch_like.load(file)",
        "import numpy as np\nnp.load(path)",
        "import numpy as np\nnp.load(path, 'r', False)",
        "import numpy as np\nnp.load(path, mmap_mode='r', allow_pickle=False)",
        "from ruamel.yaml import YAML\nYAML(typ='safe', pure=True).load(text)",
        "from ruamel.yaml import YAML\nyaml = YAML()\nyaml.load(text)",
        "import yaml\nyaml.load(text, Loader=yaml.CSafeLoader)",
        "import yaml\nyaml.safe_load(text)",
        "network.eval()",
        "request.exec()",
        "image.load()",
        "import importlib\nimportlib.import_module(command.module)",
        "import torch.distributed as dist\ndist.all_gather(parts, mine)",
        "import torch.hub\nfolder = torch.hub.get_dir()",
    ],
)
def test_what_reads_no_code_is_not(source: str) -> None:
    assert code_readers(source) == []


def test_no_source_reads_code() -> None:
    assert len(SOURCES) > 150
    found = {str(path.relative_to(ROOT)): code_readers(path.read_text()) for path in SOURCES}
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
