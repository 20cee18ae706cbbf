"""Which TensorRT plan belongs here: keys, refusals, and what is asked of the libraries.

TensorRT and CUDA's driver are stood in for by libraries of a few lines of C, which answer as the real ones are
documented to; where the real driver is, it is asked too.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from cairn.files import sha256_of, write_form
from cairn.serving.plans import DRIVER as DRIVER_FILES
from cairn.serving.plans import (
    Gpu,
    Host,
    NetworkHashes,
    PlanError,
    PlanKey,
    PlanSettings,
    Sidecar,
    check_plan,
    opened,
    read_written,
    tensorrt_version,
    visible_gpus,
)

KEY = PlanKey(tensorrt="10.14.1.48", compute_capability="9.0", onnx_sha256="ab" * 32)
SETTINGS = PlanSettings(size=224, opt_batch=16, max_batch=64, workspace_gb=4.0, level=3, tf32=False)
H100, L4 = Gpu("NVIDIA H100", "9.0"), Gpu("NVIDIA L4", "8.9")
HERE = Host("10.14.1.48", (H100,))
needs_c = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc) to make stand-in libraries with")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder embed/1 with a plan that belongs to KEY and to the exported network."""
    (tmp_path / "model.plan").write_bytes(b"a plan")
    sidecar(tmp_path, KEY)
    write_form(tmp_path / "network.json", NetworkHashes(fp32="cd" * 32, fp16="ab" * 32))
    return tmp_path


def sidecar(folder: Path, key: PlanKey) -> None:
    beside = Sidecar(
        key=key,
        gpu=H100.name,
        plan_sha256=sha256_of(folder / "model.plan"),
        settings=SETTINGS,
        parity_photos=200,
        least_cosine=0.99991,
    )
    write_form(folder / "model.plan.json", beside)


def test_plans_of_different_keys_have_different_names() -> None:
    assert KEY.name == "embedder-trt10.14.1.48-sm90-abababababababab.plan"
    others = [
        {"tensorrt": "10.14.1.49"},
        {"compute_capability": "8.9"},
        {"onnx_sha256": "ba" * 32},
    ]
    assert len({KEY.name, *(KEY.model_copy(update=other).name for other in others)}) == 4


def test_a_plan_that_belongs_here(model: Path) -> None:
    assert check_plan(model, HERE) == []
    assert check_plan(model, Host(HERE.tensorrt, (H100, H100))) == []
    (warning,) = check_plan(model, Host(HERE.tensorrt, (Gpu("NVIDIA H200", "9.0"),)))
    assert warning.endswith("tuned on NVIDIA H100, here is NVIDIA H200; it may be slower")


@pytest.mark.parametrize(
    ("host", "said"),
    [
        (Host("10.15.1.29", (H100,)), "of TensorRT 10.14.1.48, here is 10.15.1.29; run `cairn plan`"),
        (Host("10.14.1.49", (H100,)), "of TensorRT 10.14.1.48, here is 10.14.1.49; run `cairn plan`"),
        (Host(None, (H100,)), "no TensorRT library is found here"),
        (Host("10.14.1.48", ()), "no GPU is visible here"),
        (Host("10.14.1.48", (L4,)), r"capability 9.0 \(NVIDIA H100\), here is 8.9 \(NVIDIA L4\); run `cairn plan`"),
        (Host("10.14.1.48", (H100, L4)), r"here is 8.9 \(NVIDIA L4\)"),
    ],
)
def test_a_host_that_the_plan_is_not_for(model: Path, host: Host, said: str) -> None:
    with pytest.raises(PlanError, match=said):
        check_plan(model, host)


def test_a_plan_of_another_network(model: Path) -> None:
    write_form(model / "network.json", NetworkHashes(fp32="cd" * 32, fp16="ef" * 32))
    with pytest.raises(PlanError, match=r"another network \(ONNX abababababababab, exported is efefefefefefefef\)"):
        check_plan(model, HERE)


def test_a_plan_that_its_sidecar_does_not_describe(model: Path) -> None:
    (model / "model.plan").write_bytes(b"another plan")
    with pytest.raises(PlanError, match=r"model.plan: not the plan that model.plan.json describes; run `cairn plan`"):
        check_plan(model, HERE)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("model.plan", "model.plan: no such file; run `cairn plan`"),
        ("model.plan.json", "model.plan.json: no such file; run `cairn plan`"),
        ("network.json", "network.json: no such file; run `make repro`"),
    ],
)
def test_a_missing_file_is_named(model: Path, name: str, said: str) -> None:
    (model / name).unlink()
    with pytest.raises(PlanError, match=said):
        check_plan(model, HERE)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "the file: Invalid JSON"),
        ("{}", "key: Field required"),
        ('{"key": {"tensorrt": 11}}', "key.tensorrt: Input should be a valid string"),
    ],
)
def test_a_sidecar_of_another_form(model: Path, content: str, said: str) -> None:
    (model / "model.plan.json").write_text(content)
    with pytest.raises(PlanError, match=f"model.plan.json: {said}.*; run `cairn plan`"):
        check_plan(model, HERE)


def test_what_is_written_is_read_and_has_the_same_bytes(model: Path) -> None:
    first = (model / "model.plan.json").read_bytes()
    read = read_written(model / "model.plan.json", Sidecar)
    assert (read.key, read.settings) == (KEY, SETTINGS)
    write_form(model / "model.plan.json", read)
    assert (model / "model.plan.json").read_bytes() == first


def library(folder: Path, source: str) -> ctypes.CDLL:
    path = folder / "stand_in.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(path)], input=source, text=True, check=True)
    made = opened("no library of that name", str(path))
    assert made is not None
    return made


@needs_c
def test_the_version_is_the_librarys_own(tmp_path: Path) -> None:
    parts = {"Major": 10, "Minor": 14, "Patch": 1, "Build": 48}
    source = "".join(f"int getInferLib{name}Version(void) {{ return {value}; }}\n" for name, value in parts.items())
    assert tensorrt_version(library(tmp_path, source)) == "10.14.1.48"
    assert tensorrt_version(None) is None


DRIVER = """
#include <string.h>
int cuInit(unsigned flags) { return STATUS; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = 40 + ordinal; return 0; }
int cuDeviceGetName(char *name, int length, int device) {
    strncpy(name, device == 40 ? "NVIDIA H100" : "NVIDIA L4", length);
    return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    if (attribute != 75 && attribute != 76) return 1;
    *value = device == 40 ? (attribute == 75 ? 9 : 0) : (attribute == 75 ? 8 : 9);
    return 0;
}
"""


@needs_c
def test_the_gpus_are_those_the_driver_shows(tmp_path: Path) -> None:
    assert visible_gpus(library(tmp_path, DRIVER.replace("STATUS", "0"))) == (H100, L4)


@needs_c
def test_a_driver_without_a_gpu_shows_none(tmp_path: Path) -> None:
    assert visible_gpus(library(tmp_path, DRIVER.replace("STATUS", "100"))) == ()
    assert visible_gpus(None) == ()


@needs_c
def test_a_driver_that_does_not_tell(tmp_path: Path) -> None:
    source = DRIVER.replace("STATUS", "0").replace("attribute != 75", "1")
    with pytest.raises(PlanError, match=r"CUDA's driver does not tell about its GPUs \(status 1\)"):
        visible_gpus(library(tmp_path, source))


def test_a_library_that_is_not_here(tmp_path: Path) -> None:
    (tmp_path / "text.so").write_text("no library")
    assert opened("no library of that name", str(tmp_path / "none.so"), str(tmp_path / "text.so")) is None


@pytest.mark.skipif(opened(*DRIVER_FILES) is None, reason="no CUDA driver here")
def test_on_a_gpu_the_real_driver_says_what_torch_says() -> None:
    import torch

    shown = visible_gpus(opened(*DRIVER_FILES))
    assert [gpu.name for gpu in shown] == [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    capabilities = [torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())]
    assert [gpu.compute_capability for gpu in shown] == [f"{major}.{minor}" for major, minor in capabilities]
