"""What a TensorRT plan belongs to, and whether it belongs here: one TensorRT version, one kind of GPU, one network.

Looked up without TensorRT's Python package, which the server's container has not got.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from ctypes.util import find_library
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict

from cairn.files import FormError, read_form, sha256_of

NETWORK_FILE = "network.json"  # beside the network, written by the export stage
PLAN_FILE = "model.plan"
SIDECAR_FILE = "model.plan.json"
RECIPE_FILE = "plan.json"  # beside the ONNX files, written by the export stage
WAY_OUT = "run `cairn plan` in the container that is of the server's month (docs/serving.md)"
TENSORRT = ("nvinfer", "libnvinfer.so.11", "libnvinfer.so.10")
DRIVER = ("cuda", "libcuda.so.1")
MAJOR, MINOR = 75, 76  # of the compute capability, among CUDA's device attributes
NAME_LENGTH = 256


class PlanError(RuntimeError):
    """A plan that cannot be built, or that does not belong here; the message says what to run."""


class Written(BaseModel):
    """A small JSON file that one program writes and another reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NetworkHashes(Written):
    """Which network the repository serves: SHA-256 of its two ONNX files, in hexadecimal."""

    fp32: str
    fp16: str


class PlanKey(Written):
    """What a plan belongs to. TensorRT loads it nowhere else, or makes it answer for another network."""

    tensorrt: str  # four numbers
    compute_capability: str  # of the GPU, as 9.0
    onnx_sha256: str  # of the FP16 ONNX it was built from

    @property
    def name(self) -> str:
        """The file name that plans of different keys do not share."""
        return f"embedder-trt{self.tensorrt}-sm{self.compute_capability.replace('.', '')}-{self.onnx_sha256[:16]}.plan"


class PlanSettings(Written):
    """What a plan is built by, beside its ONNX."""

    size: int  # pixels of a side of the network's square input
    opt_batch: int  # photos; what it is tuned for. From 1 on it takes any number
    max_batch: int
    workspace_gb: float
    level: int  # TensorRT's effort, 0 to 5
    tf32: bool


class PlanRecipe(Written):
    """How to make a plan and when to trust it: the export stage writes it, so that a build needs no params."""

    settings: PlanSettings
    parity_photos: int
    min_cosine: float  # of the plan's embeddings and the ONNX file's


class Sidecar(Written):
    """What is written beside a plan."""

    key: PlanKey
    gpu: str  # the name of the one it was built and tuned on
    plan_sha256: str
    settings: PlanSettings
    parity_photos: int
    least_cosine: float  # of the plan's embeddings and the ONNX file's


class Gpu(NamedTuple):
    """A GPU that this process sees."""

    name: str
    compute_capability: str


class Host(NamedTuple):
    """What would load a plan."""

    tensorrt: str | None  # none: no library is found
    gpus: tuple[Gpu, ...]


def check_plan(model: Path, host: Host) -> list[str]:
    """Raises PlanError if `model` (the folder embed/1) holds no plan that belongs to it and to the host.

    Gives warnings of what may only be slow.
    """
    sidecar = read_written(model / SIDECAR_FILE, Sidecar)
    plan = model / PLAN_FILE
    if not plan.exists():
        raise PlanError(f"{plan}: no such file; {WAY_OUT}")
    if sha256_of(plan) != sidecar.plan_sha256:
        raise PlanError(f"{plan}: not the plan that {SIDECAR_FILE} describes; {WAY_OUT}")
    wanted = read_written(model / NETWORK_FILE, NetworkHashes, "run `make repro`, which exports it").fp16
    if sidecar.key.onnx_sha256 != wanted:
        raise PlanError(
            f"{plan}: built from another network (ONNX {sidecar.key.onnx_sha256[:16]}, exported is {wanted[:16]}); "
            f"{WAY_OUT}"
        )
    if host.tensorrt is None:
        raise PlanError("no TensorRT library is found here; serve in the official container, or with another embedder")
    if sidecar.key.tensorrt != host.tensorrt:
        raise PlanError(f"{plan}: of TensorRT {sidecar.key.tensorrt}, here is {host.tensorrt}; {WAY_OUT}")
    if not host.gpus:
        raise PlanError("no GPU is visible here; give the container one, or serve with another embedder")
    others = [gpu for gpu in host.gpus if gpu.compute_capability != sidecar.key.compute_capability]
    if others:
        raise PlanError(
            f"{plan}: of compute capability {sidecar.key.compute_capability} ({sidecar.gpu}), here is "
            f"{others[0].compute_capability} ({others[0].name}); {WAY_OUT}"
        )
    unlike = sorted({gpu.name for gpu in host.gpus} - {sidecar.gpu})
    return [f"{plan}: tuned on {sidecar.gpu}, here is {', '.join(unlike)}; it may be slower"] if unlike else []


Form = TypeVar("Form", bound=Written)


def read_written(path: Path, form: type[Form], way_out: str = WAY_OUT) -> Form:
    """What `form` wrote. Raises PlanError, with the way out, if the file is missing or says something else."""
    try:
        return read_form(path, form, way_out)
    except FormError as error:
        raise PlanError(str(error)) from error


def host() -> Host:
    """This machine's TensorRT library and GPUs, as the libraries themselves say."""
    return Host(tensorrt_version(opened(*TENSORRT)), visible_gpus(opened(*DRIVER)))


def opened(name: str, *files: str) -> ctypes.CDLL | None:
    """A library, by its name or by its files' as the loader finds them; none if it is not here."""
    for candidate in filter(None, (find_library(name), *files)):
        with suppress(OSError):
            return ctypes.CDLL(candidate)
    return None


def tensorrt_version(nvinfer: ctypes.CDLL | None) -> str | None:
    """The four numbers of TensorRT's version; none if there is no library."""
    if nvinfer is None:
        return None
    return ".".join(str(nvinfer[f"getInferLib{part}Version"]()) for part in ("Major", "Minor", "Patch", "Build"))


def visible_gpus(cuda: ctypes.CDLL | None) -> tuple[Gpu, ...]:
    """The GPUs that CUDA's driver shows to this process; none if there is no driver."""
    if cuda is None:
        return ()
    count = ctypes.c_int()
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return ()
    return tuple(_gpu(cuda, number) for number in range(count.value))


def _gpu(cuda: ctypes.CDLL, number: int) -> Gpu:
    device, name, value = ctypes.c_int(), ctypes.create_string_buffer(NAME_LENGTH), ctypes.c_int()
    _asked(cuda.cuDeviceGet(ctypes.byref(device), number))
    _asked(cuda.cuDeviceGetName(name, NAME_LENGTH, device))
    parts = []
    for attribute in (MAJOR, MINOR):
        _asked(cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device))
        parts.append(str(value.value))
    return Gpu(name.value.decode(), ".".join(parts))


def _asked(status: int) -> None:
    if status != 0:
        raise PlanError(f"CUDA's driver does not tell about its GPUs (status {status}); is the driver's version right?")
