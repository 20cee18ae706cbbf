"""Every call of TensorRT: a plan is built, and run.

Only importable where TensorRT's Python package is. Its calls are held against NVIDIA's own bindings by
tests/export/test_tensorrt_calls.py, wherever the tests run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorrt as trt
import torch
from numpy.typing import NDArray

from cairn.export.profile import batches_of, profile_of
from cairn.files import written_aside
from cairn.serving.embedding import INPUT, OUTPUT
from cairn.serving.plans import PlanError, PlanSettings

GIB = 2**30
SHOWN = (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR, trt.ILogger.Severity.WARNING)


class Messages(trt.ILogger):
    """TensorRT's messages: warnings and errors are printed, errors kept for the message of what failed."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        """Called by TensorRT."""
        if severity not in SHOWN:
            return
        print(f"TensorRT {severity.name.lower()}: {msg}", file=sys.stderr)
        if severity != trt.ILogger.Severity.WARNING:
            self.errors.append(msg)

    def __str__(self) -> str:
        return "; ".join(self.errors) or "it gave no reason"


def build_plan(onnx_file: Path, settings: PlanSettings, timing_cache: Path) -> bytes:
    """Build a plan. What was measured of layers is kept in `timing_cache`, so that a second build is fast and alike.

    Raises PlanError with TensorRT's own messages if the ONNX cannot be parsed or built, or the plan does not load.
    """
    logger = Messages()
    builder = trt.Builder(logger)
    typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)  # TensorRT 11 does nothing else
    network = builder.create_network(typed)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx_file.read_bytes()):
        raise PlanError(f"{onnx_file}: " + "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors)))
    config = _configured(builder, settings)
    _use_timings(config, timing_cache)
    serialised = builder.build_serialized_network(network, config)
    if serialised is None:
        raise PlanError(f"{onnx_file}: TensorRT built no plan: {logger}")
    _keep_timings(config, timing_cache)
    plan = bytes(serialised)
    runtime = trt.Runtime(logger)
    if runtime.deserialize_cuda_engine(plan) is None:
        raise PlanError(f"{onnx_file}: TensorRT cannot load the plan that it built: {logger}")
    return plan


def _configured(builder: trt.Builder, settings: PlanSettings) -> trt.IBuilderConfig:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(settings.workspace_gb * GIB))
    config.builder_optimization_level = settings.level
    if not settings.tf32:  # which is on unless it is turned off
        config.clear_flag(trt.BuilderFlag.TF32)
    shapes = profile_of(settings)
    profile = builder.create_optimization_profile()
    profile.set_shape(INPUT, shapes.min, shapes.opt, shapes.max)
    if config.add_optimization_profile(profile) < 0:
        raise PlanError(f"TensorRT refuses the profile {shapes}; the ONNX is of another size or largest batch")
    return config


def _use_timings(config: trt.IBuilderConfig, path: Path) -> None:
    """Give the builder what it measured before; a cache of another TensorRT is begun anew."""
    config.set_flag(trt.BuilderFlag.EDITABLE_TIMING_CACHE)  # one entry a layer, the same choice each time
    for content in ([path.read_bytes()] if path.exists() else []) + [b""]:
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, False):
            return


def _keep_timings(config: trt.IBuilderConfig, path: Path) -> None:
    cache = config.get_timing_cache()
    if cache is not None:
        with written_aside(path) as aside:
            aside.write_bytes(bytes(cache.serialize()))


def run_plan(plan: bytes, images: NDArray[np.uint8], sizes: Sequence[int]) -> NDArray[np.float32]:
    """Unit vectors float32 [photos, dimensions] of RGB images uint8 [photos, size, size, 3], on the GPU.

    Batches are of `sizes` in turn, so that all of the profile is tried. Raises PlanError if the plan does not load, has
    other tensors, or a run of it fails.
    """
    logger = Messages()
    runtime = trt.Runtime(logger)  # has to outlive its engine
    engine = runtime.deserialize_cuda_engine(plan)
    context = None if engine is None else engine.create_execution_context()
    if engine is None or context is None:
        raise PlanError(f"the plan does not load: {logger}")
    names = {engine.get_tensor_name(number) for number in range(engine.num_io_tensors)}
    if names != {INPUT, OUTPUT}:
        raise PlanError(f"the plan has the tensors {sorted(names)}; wanted {[INPUT, OUTPUT]}")
    dimensions = engine.get_tensor_shape(OUTPUT)[1]
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    rows = []
    with torch.cuda.stream(stream):
        for batch in batches_of(images, sizes):
            given = torch.from_numpy(batch).cuda()
            out = torch.empty((len(batch), dimensions), dtype=torch.float32, device="cuda")
            taken = context.set_input_shape(INPUT, tuple(given.shape))
            taken = taken and context.set_tensor_address(INPUT, given.data_ptr())
            taken = taken and context.set_tensor_address(OUTPUT, out.data_ptr())
            if not (taken and context.execute_async_v3(stream.cuda_stream)):
                raise PlanError(f"the plan does not run a batch of {len(batch)}: {logger}")
            rows.append(out.cpu().numpy())  # waits for the stream
    return np.concatenate(rows)
