"""Whether a TensorRT plan of the embedder can be made here, and the making of it: built, checked, placed.

A plan belongs to one TensorRT version and one kind of GPU, so it is no out of the pipeline: the portable artefact is
the ONNX. Written for TensorRT 10 and 11: networks are strongly typed, the FP16 comes from the graph.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from cairn.export.onnx_run import run_onnx
from cairn.files import discard, sha256_of, write_form, written_aside
from cairn.serving.plans import (
    PLAN_FILE,
    SIDECAR_FILE,
    PlanError,
    PlanKey,
    PlanRecipe,
    PlanSettings,
    Sidecar,
    read_written,
)


@dataclass(frozen=True)
class Readiness:
    """Whether a plan can be built here, and why not."""

    ready: bool
    reason: str


def readiness() -> Readiness:
    """Look for a GPU and the TensorRT library."""
    if not torch.cuda.is_available():
        return Readiness(False, "no CUDA GPU is visible")
    if find_spec("tensorrt") is None:
        return Readiness(False, "TensorRT is not installed; use its container, or install the extra `gpu`")
    try:
        import tensorrt as trt
    except (ImportError, OSError) as error:
        return Readiness(False, f"TensorRT cannot be loaded ({error}); use its container, or install the extra `gpu`")
    return Readiness(True, f"TensorRT {trt.__version__} on {torch.cuda.get_device_name()}")


def key_here(onnx_file: Path) -> PlanKey:
    """What a plan of this ONNX belongs to if it is built here."""
    import tensorrt as trt

    major, minor = torch.cuda.get_device_capability()
    return PlanKey(
        tensorrt=four_numbers(trt.__version__),
        compute_capability=f"{major}.{minor}",
        onnx_sha256=sha256_of(onnx_file),
    )


def four_numbers(version: str) -> str:
    """The version without what a package's own number adds: 10.14.1.48 of 10.14.1.48.post1."""
    return ".".join(version.split(".")[:4])


class Maker(NamedTuple):
    """What builds plans and runs them, on which GPU."""

    gpu: str
    build: Callable[[Path, PlanSettings, Path], bytes]  # of an ONNX file; the last is where timings are kept
    run: Callable[[bytes, NDArray[np.uint8], Sequence[int]], NDArray[np.float32]]  # in batches of those sizes


def tensorrt_maker() -> Maker:
    """TensorRT on this machine's GPU."""
    from cairn.export.tensorrt_engine import build_plan, run_plan

    return Maker(torch.cuda.get_device_name(), build_plan, run_plan)


def make_plan(
    maker: Maker,
    key: PlanKey,
    onnx_file: Path,
    recipe: PlanRecipe,
    images: NDArray[np.uint8],
    plans: Path,
    model: Path,
    threads: int,
) -> Sidecar:
    """Build the plan in the folder `plans`, or take it from there; check it on `images`; place it in `model`, embed/1.

    `images` are network inputs uint8 [photos, size, size, 3] of real photos. Raises PlanError if no plan can be
    built, or if its embeddings are not those of the ONNX file; nothing is placed then.
    """
    kept = plans / key.name
    if not is_kept(kept, key, recipe.settings):
        timings = plans / f"timings-trt{key.tensorrt}-sm{key.compute_capability.replace('.', '')}.cache"
        plan = maker.build(onnx_file, recipe.settings, timings)
        with written_aside(kept) as aside:
            aside.write_bytes(plan)
    sizes = sorted({1, recipe.settings.opt_batch, recipe.settings.max_batch})
    found = maker.run(kept.read_bytes(), images, sizes)
    least = gated(run_onnx(onnx_file, images, threads), found, recipe.min_cosine)
    sidecar = Sidecar(
        key=key,
        gpu=maker.gpu,
        plan_sha256=sha256_of(kept),
        settings=recipe.settings,
        parity_photos=len(images),
        least_cosine=round(least, 6),
    )
    write_form(sidecar_of(kept), sidecar)
    place_plan(kept, sidecar, model)
    return sidecar


def sidecar_of(plan: Path) -> Path:
    """The file beside a kept plan that says what it is."""
    return plan.with_name(f"{plan.name}.json")


def is_kept(plan: Path, key: PlanKey, settings: PlanSettings) -> bool:
    """Whether the plan was built before, by the same settings, and is whole."""
    if not (plan.exists() and sidecar_of(plan).exists()):
        return False
    try:
        beside = read_written(sidecar_of(plan), Sidecar)
    except PlanError:  # of an older form: it is built anew
        return False
    return (beside.key, beside.settings, beside.plan_sha256) == (key, settings, sha256_of(plan))


def gated(wanted: NDArray[np.float32], found: NDArray[np.float32], min_cosine: float) -> float:
    """The least cosine of unit vectors [photos, dimensions], row by row. Raises PlanError if it is under the gate."""
    if len(wanted) == 0:
        raise PlanError("no photo to check the plan with; name a folder of photos")
    if wanted.shape != found.shape:
        raise PlanError(f"the plan's embeddings are {list(found.shape)}, the ONNX file's {list(wanted.shape)}")
    least = float((wanted * found).sum(axis=1).min())
    if not least >= min_cosine:  # NaN is no parity either
        raise PlanError(
            f"the plan differs from its ONNX file: least cosine {least:.6f} on {len(wanted)} photos (wanted "
            f"{min_cosine}); it was not placed. export.builder.level or tf32 may be at fault"
        )
    return least


def place_plan(plan: Path, sidecar: Sidecar, model: Path) -> None:
    """Copy a plan to the folder embed/1, the sidecar last: a plan without its own is refused by the server."""
    remove_plan(model)
    with written_aside(model / PLAN_FILE) as aside:
        shutil.copyfile(plan, aside)
    write_form(model / SIDECAR_FILE, sidecar)


def remove_plan(model: Path) -> None:
    """Take the plan of an older network away."""
    for name in (SIDECAR_FILE, PLAN_FILE):
        discard(model / name)
