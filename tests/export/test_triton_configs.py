"""The configurations of `embed`: full, alike in what clients see, and the same bytes each time."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import TYPE_UINT8, ModelConfig

from cairn.composing import compose
from cairn.export.triton_configs import NAMED, NetworkSizes, write_configs
from cairn.params import BatchingParams, ParamsError, load_params
from cairn.serving.command import EMBEDDERS

ROOT = Path(__file__).parents[2]
SIZES = NetworkSizes(size=224, dimensions=512, max_batch=64, plan_batch=32)
BATCHING = BatchingParams(preferred=(32, 8, 64), delay_ms=1.5, queue=100, timeout_s=2.0, instances=3)


def written(folder: Path) -> dict[str, ModelConfig]:
    write_configs(folder, SIZES, BATCHING)
    paths = {"python": "config.pbtxt", **NAMED}
    return {name: text_format.Parse((folder / path).read_text(), ModelConfig()) for name, path in paths.items()}


def test_one_for_each_embedder(tmp_path: Path) -> None:
    configs = written(tmp_path)
    assert set(configs) == set(EMBEDDERS)
    assert {name: config.backend for name, config in configs.items()} == {name: name for name in EMBEDDERS}
    files = {name: config.default_model_filename for name, config in configs.items()}
    assert files == {"python": "model.py", "onnxruntime": "model.onnx", "tensorrt": "model.plan"}
    kinds = {name: config.instance_group[0].kind for name, config in configs.items()}
    group = configs["python"].instance_group[0]
    assert kinds == {"python": group.KIND_CPU, "onnxruntime": group.KIND_AUTO, "tensorrt": group.KIND_GPU}
    counts = {name: config.instance_group[0].count for name, config in configs.items()}
    assert counts == {"python": 1, "onnxruntime": 3, "tensorrt": 3}


def test_clients_see_no_difference(tmp_path: Path) -> None:
    for config in written(tmp_path).values():
        assert config.name == "embed"
        (image,), (embedding,) = config.input, config.output
        assert (image.name, image.data_type, list(image.dims)) == ("image", TYPE_UINT8, [224, 224, 3])
        assert (embedding.name, list(embedding.dims)) == ("embedding", [512])


def test_batches_are_gathered_as_the_params_say(tmp_path: Path) -> None:
    configs = written(tmp_path)
    assert {name: config.max_batch_size for name, config in configs.items()} == {
        "python": 64,
        "onnxruntime": 64,
        "tensorrt": 32,
    }
    preferred = {name: list(config.dynamic_batching.preferred_batch_size) for name, config in configs.items()}
    assert preferred == {"python": [8, 32, 64], "onnxruntime": [8, 32, 64], "tensorrt": [8, 32]}
    for config in configs.values():
        policy = config.dynamic_batching.default_queue_policy
        assert config.dynamic_batching.max_queue_delay_microseconds == 1500
        assert (policy.max_queue_size, policy.default_timeout_microseconds) == (100, 2_000_000)
        assert policy.timeout_action == policy.REJECT


def test_one_photo_and_where_a_gpu_may_be_the_most_are_run_before_anybody_asks(tmp_path: Path) -> None:
    configs = written(tmp_path)
    warm = {name: [each.batch_size for each in config.model_warmup] for name, config in configs.items()}
    assert warm == {"python": [1], "onnxruntime": [1, 64], "tensorrt": [1, 32]}
    for config in configs.values():
        assert all(list(warm.inputs["image"].dims) == [224, 224, 3] for warm in config.model_warmup)


def test_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        written(tmp_path / name)
    for path in ("config.pbtxt", *NAMED.values()):
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("export.profile.opt=65", "opt <= max <= max_batch is needed; 65, 64, 64"),
        ("export.profile.max=128", "opt <= max <= max_batch is needed; 16, 128, 64"),
        ("export.batching.queue=0", "export.batching.queue = 0"),
        ("export.builder.level=6", "export.builder.level = 6"),
    ],
)
def test_params_that_cannot_be(tmp_path: Path, override: str, said: str) -> None:
    compose(ROOT, tmp_path / "params.yaml", [override])
    with pytest.raises(ParamsError, match=said):
        load_params(tmp_path / "params.yaml")


def test_the_plans_largest_batch_follows_the_networks(tmp_path: Path) -> None:
    compose(ROOT, tmp_path / "params.yaml", ["export.max_batch=32"])
    assert load_params(tmp_path / "params.yaml").export.profile.max == 32
