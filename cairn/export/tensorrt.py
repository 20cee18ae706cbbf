"""The TensorRT plan of the embedder, built from the FP16 ONNX where TensorRT and a GPU are present.

A plan belongs to one TensorRT version and one GPU, so it is no out of the pipeline: the portable artefact is the ONNX.
Written against TensorRT 10 and 11: networks are strongly typed, the FP16 comes from the graph.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cairn.export.onnx import INPUT
from cairn.files import written_aside


class PlanError(RuntimeError):
    """A plan that cannot be built, or was asked for where it cannot be."""


@dataclass(frozen=True)
class Readiness:
    """Whether a plan can be built here, and why not."""

    ready: bool
    reason: str


def readiness() -> Readiness:
    """Look for a GPU and the TensorRT library."""
    if not torch.cuda.is_available():
        return Readiness(False, "no CUDA GPU is visible")
    try:
        version = importlib.import_module("tensorrt").__version__
    except (ImportError, OSError) as error:
        return Readiness(False, f"TensorRT cannot be loaded ({error}); install the extra `gpu`")
    return Readiness(True, f"TensorRT {version} on {torch.cuda.get_device_name()}")


def build_plan(onnx_file: Path, plan: Path, size: int, max_batch: int) -> None:
    """Build a plan for batches of 1 to `max_batch` images of size x size pixels, tuned for the largest.

    Raises PlanError with TensorRT's own messages if the ONNX cannot be parsed or built, or the plan does not load.
    """
    trt: Any = importlib.import_module("tensorrt")
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)  # version 11 knows nothing else
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx_file.read_bytes()):
        raise PlanError(f"{onnx_file}: " + "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors)))
    profile = builder.create_optimization_profile()
    shape = (3, size, size)
    profile.set_shape(INPUT, (1, *shape), (max_batch, *shape), (max_batch, *shape))
    config = builder.create_builder_config()
    config.add_optimization_profile(profile)
    serialised = builder.build_serialized_network(network, config)
    if serialised is None:
        raise PlanError(f"{onnx_file}: TensorRT built no plan; its messages are above")
    if trt.Runtime(logger).deserialize_cuda_engine(serialised) is None:
        raise PlanError(f"{onnx_file}: TensorRT cannot load the plan that it built")
    with written_aside(plan) as aside:
        aside.write_bytes(bytes(serialised))
