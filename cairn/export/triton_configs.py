"""The configurations of the Triton model `embed`, one for each backend that can run it, with the network's true sizes.

They are full: nothing is left for the server to complete. Names, inputs and outputs are the same in all of them, so
that one may take another's place.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import (
    TYPE_FP32,
    TYPE_UINT8,
    ModelConfig,
    ModelDynamicBatching,
    ModelInput,
    ModelInstanceGroup,
    ModelOutput,
    ModelQueuePolicy,
    ModelVersionPolicy,
    ModelWarmup,
)

from cairn.files import written_aside
from cairn.params import BatchingParams
from cairn.serving.embedding import INPUT, OUTPUT

HEADER = "# Written by the export stage, from its params and the network; cairn/export/triton_configs.py says how.\n"
DEFAULT = "config.pbtxt"  # Triton's own name
NAMED = {"onnxruntime": "configs/onnxruntime.pbtxt", "tensorrt": "configs/tensorrt.pbtxt"}  # by --model-config-name


@dataclass(frozen=True)
class NetworkSizes:
    """What the server has to know of the network."""

    size: int  # pixels of a side of its square input
    dimensions: int  # of its embedding
    max_batch: int  # photos at once
    plan_batch: int  # photos at once of the TensorRT plan


def write_configs(model: Path, sizes: NetworkSizes, batching: BatchingParams) -> None:
    """Write the three configurations below the folder of the model `embed`; the same arguments, the same bytes."""
    configs = {
        DEFAULT: python_config(sizes, batching),
        NAMED["onnxruntime"]: onnxruntime_config(sizes, batching),
        NAMED["tensorrt"]: tensorrt_config(sizes, batching),
    }
    for name, config in configs.items():
        with written_aside(model / name) as aside:
            aside.write_text(HEADER + text_format.MessageToString(config))


def python_config(sizes: NetworkSizes, batching: BatchingParams) -> ModelConfig:
    """ONNX Runtime in Triton's Python backend, on the CPU: runs on any Triton. One copy has all cores."""
    group = ModelInstanceGroup(name="embed", kind=ModelInstanceGroup.KIND_CPU, count=1)
    return _config("python", "", "model.py", sizes, sizes.max_batch, batching, group)


def onnxruntime_config(sizes: NetworkSizes, batching: BatchingParams) -> ModelConfig:
    """Triton's own ONNX Runtime backend: on each GPU, or on the CPU where there is none."""
    group = ModelInstanceGroup(name="embed", kind=ModelInstanceGroup.KIND_AUTO, count=batching.instances)
    return _config("onnxruntime", "onnxruntime_onnx", "model.onnx", sizes, sizes.max_batch, batching, group)


def tensorrt_config(sizes: NetworkSizes, batching: BatchingParams) -> ModelConfig:
    """A TensorRT plan, on each GPU; its only optimisation profile is number 0."""
    group = ModelInstanceGroup(name="embed", kind=ModelInstanceGroup.KIND_GPU, count=batching.instances, profile=["0"])
    return _config("tensorrt", "tensorrt_plan", "model.plan", sizes, sizes.plan_batch, batching, group)


def _config(
    backend: str,
    platform: str,
    file: str,
    sizes: NetworkSizes,
    max_batch: int,
    batching: BatchingParams,
    group: ModelInstanceGroup,
) -> ModelConfig:
    # A CPU looks for no algorithms: there the largest batch would only make every start of the server longer.
    warm = {"one": 1} if group.kind == ModelInstanceGroup.KIND_CPU else {"one": 1, "most": max_batch}
    shape = [sizes.size, sizes.size, 3]
    return ModelConfig(
        name="embed",
        backend=backend,
        platform=platform,
        default_model_filename=file,
        max_batch_size=max_batch,
        input=[ModelInput(name=INPUT, data_type=TYPE_UINT8, dims=shape)],
        output=[ModelOutput(name=OUTPUT, data_type=TYPE_FP32, dims=[sizes.dimensions])],
        version_policy=ModelVersionPolicy(latest=ModelVersionPolicy.Latest(num_versions=1)),
        instance_group=[group],
        dynamic_batching=_batching(batching, max_batch),
        model_warmup=[_warm_up(name, batch, shape) for name, batch in warm.items()],
    )


def _batching(batching: BatchingParams, max_batch: int) -> ModelDynamicBatching:
    return ModelDynamicBatching(
        preferred_batch_size=sorted({size for size in batching.preferred if size <= max_batch}),
        max_queue_delay_microseconds=round(batching.delay_ms * 1000),
        default_queue_policy=ModelQueuePolicy(
            max_queue_size=batching.queue,
            timeout_action=ModelQueuePolicy.REJECT,
            default_timeout_microseconds=round(batching.timeout_s * 1e6),
        ),
    )


def _warm_up(name: str, batch: int, shape: list[int]) -> ModelWarmup:
    """The first runs of a size find its algorithms and take its memory: they are done before anybody waits."""
    image = ModelWarmup.Input(data_type=TYPE_UINT8, dims=shape, zero_data=True)
    return ModelWarmup(name=name, batch_size=batch, inputs={INPUT: image})
