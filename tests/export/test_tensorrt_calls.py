"""Our calls of TensorRT against NVIDIA's own bindings, which load without a GPU where nothing of TensorRT is called.

The package `tensorrt` cannot be installed without its gigabytes of libraries, its bindings can. They are loaded in a
process of its own beside libraries that only have the names that loading asks for. mypy checks our calls against
typings/tensorrt.pyi; this checks that file, name by name and argument by argument, and the module that makes the calls.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUBS = ast.parse((ROOT / "typings" / "tensorrt.pyi").read_text())
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
ASKED_FOR = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)
PYTHONS_OWN = {"__init__", "__int__", "__buffer__"}  # in every class, or of a protocol: looked at by other tests
pytestmark = [
    pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc) to make empty libraries with"),
    pytest.mark.skipif(find_spec("tensorrt_bindings") is None, reason="tensorrt-cu13-bindings is not installed"),
]


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("libraries")
    major = metadata.version("tensorrt-cu13-bindings").split(".")[0]
    source = "".join(f"void *{name}(void) {{ return 0; }}\n" for name in ASKED_FOR)
    for name in LIBRARIES:
        target = str(folder / f"lib{name}.so.{major}")
        subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", target], input=source, text=True, check=True)
    return folder


def in_bindings(libraries: Path, code: str) -> str:
    """What `code` prints where `tensorrt` is NVIDIA's bindings."""
    start = "import sys, tensorrt_bindings as trt\nsys.modules['tensorrt'] = trt\n"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(libraries), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", start + code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


LOOK = """
import json
def members(thing):
    return {name: str(getattr(thing, name).__doc__) for name in dir(thing)}
found = {name: members(getattr(trt, name)) for name in dir(trt)}
found["ILogger.Severity"] = members(trt.ILogger.Severity)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def real(libraries: Path) -> dict[str, dict[str, str]]:
    """Of each name in the package its members, with their docstrings, whose first lines are the signatures."""
    found: dict[str, dict[str, str]] = json.loads(in_bindings(libraries, LOOK))
    return found


def classes() -> list[tuple[str, ast.ClassDef]]:
    """The classes of the stubs, by the name to find them by."""
    outer = [node for node in STUBS.body if isinstance(node, ast.ClassDef)]
    inner = [(f"{o.name}.{node.name}", node) for o in outer for node in o.body if isinstance(node, ast.ClassDef)]
    return [*((node.name, node) for node in outer), *inner]


def signatures(docstring: str, name: str) -> list[list[str]]:
    """The argument names of each overload that pybind11 wrote into a docstring, without self."""
    found = re.findall(rf"\b{name}\((self: .*?)\) -> ", docstring)
    return [re.findall(r"(?:^|, )(\w+): ", given)[1:] for given in found]


@pytest.mark.parametrize(("name", "stub"), classes(), ids=lambda value: value if isinstance(value, str) else "")
def test_each_name_and_argument_of_ours_is_nvidias(
    real: dict[str, dict[str, str]], name: str, stub: ast.ClassDef
) -> None:
    assert name in real
    for node in stub.body:
        if isinstance(node, ast.AnnAssign):
            assert isinstance(node.target, ast.Name)
            assert node.target.id in real[name]
        elif isinstance(node, ast.FunctionDef) and node.name not in PYTHONS_OWN:
            assert node.name in real[name]
            asked = [argument.arg for argument in node.args.args[1:]]
            overloads = signatures(real[name][node.name], node.name)
            is_property = any(isinstance(d, ast.Name) and d.id == "property" for d in node.decorator_list)
            # What we leave out at the end has a default in TensorRT 10 and 11.
            assert is_property or name == "ILogger" or any(given[: len(asked)] == asked for given in overloads)


def test_signatures_are_read_from_docstrings() -> None:
    plain = "set_flag(self: a.b.IBuilderConfig, flag: a.b.BuilderFlag) -> None"
    assert signatures(plain, "set_flag") == [["flag"]]
    two = "f(*args, **kwargs)\n\n1. f(self: a.B, x: str = None) -> bool\n\n2. f(self: a.B) -> a.C"
    assert signatures(two, "f") == [["x"], []]


def test_the_module_that_calls_loads_and_hears_what_tensorrt_says(libraries: Path) -> None:
    code = """
from cairn.export import tensorrt_engine as engine
heard = engine.Messages()
assert isinstance(heard, trt.ILogger)
assert str(heard) == "it gave no reason"
for severity in ("VERBOSE", "INFO", "WARNING", "ERROR", "INTERNAL_ERROR"):
    heard.log(getattr(trt.ILogger.Severity, severity), severity)
assert heard.errors == ["ERROR", "INTERNAL_ERROR"], heard.errors
assert str(heard) == "ERROR; INTERNAL_ERROR"
print("done")
"""
    assert in_bindings(libraries, code) == "done\n"


def test_a_shape_of_ours_is_one_of_tensorrts(libraries: Path) -> None:
    code = """
from cairn.export.profile import profile_of
from cairn.serving.plans import PlanSettings
shapes = profile_of(PlanSettings(size=224, opt_batch=16, max_batch=64, workspace_gb=4.0, level=3, tf32=False))
print([tuple(trt.Dims(shape)) for shape in shapes])
"""
    assert in_bindings(libraries, code) == "[(1, 224, 224, 3), (16, 224, 224, 3), (64, 224, 224, 3)]\n"
