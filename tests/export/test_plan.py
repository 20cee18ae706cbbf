"""Making a TensorRT plan: what `cairn plan` reads, refuses and places. The building itself is run where a GPU is."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from serving.tiny_repository import PREPROCESSING, Tiny

from cairn.answering.preprocess import pixels
from cairn.client.main import main
from cairn.export.plan import add_arguments, network_inputs, run
from cairn.export.profile import batches_of, profile_of
from cairn.export.tensorrt import (
    Maker,
    four_numbers,
    gated,
    is_kept,
    key_here,
    make_plan,
    place_plan,
    readiness,
    remove_plan,
    sidecar_of,
)
from cairn.files import sha256_of, write_form
from cairn.manifest import read_images
from cairn.serving.plans import (
    Gpu,
    Host,
    NetworkHashes,
    PlanError,
    PlanKey,
    PlanRecipe,
    PlanSettings,
    Sidecar,
    check_plan,
    read_written,
)
from cairn.shards import ShardReader

SETTINGS = PlanSettings(size=48, opt_batch=4, max_batch=8, workspace_gb=1.0, level=0, tf32=False)
RECIPE = PlanRecipe(settings=SETTINGS, parity_photos=13, min_cosine=0.999)
KEY = PlanKey(tensorrt="11.4.0.106", compute_capability="9.0", onnx_sha256="ab" * 32)
UNIT = np.eye(3, 4, dtype=np.float32)


def test_a_plan_takes_one_photo_to_the_largest_batch() -> None:
    assert profile_of(SETTINGS) == ((1, 48, 48, 3), (4, 48, 48, 3), (8, 48, 48, 3))


@pytest.mark.parametrize("photos", [0, 1, 5, 12, 13, 40])
def test_all_photos_are_tried_once_in_batches_of_the_profiles_sizes(photos: int) -> None:
    images = np.arange(photos, dtype=np.float32)[:, None]
    batches = list(batches_of(images, [1, 4, 8]))
    assert np.concatenate([images[:0], *batches]).tolist() == images.tolist()
    assert [len(batch) for batch in batches[:-1]] == ([1, 4, 8] * 4)[: max(len(batches) - 1, 0)]


@pytest.mark.parametrize("version", ["10.14.1.48", "10.14.1.48.post1"])
def test_a_packages_own_number_is_not_the_librarys(version: str) -> None:
    assert four_numbers(version) == "10.14.1.48"


def test_the_least_cosine_is_the_gate() -> None:
    turned = UNIT.copy()
    turned[1] = [0.0, 0.8, 0.6, 0.0]
    assert gated(UNIT, UNIT, 0.999) == 1
    assert gated(UNIT, turned, 0.79) == pytest.approx(0.8)
    with pytest.raises(PlanError, match=r"least cosine 0.800000 on 3 photos \(wanted 0.81\); it was not placed"):
        gated(UNIT, turned, 0.81)


def test_no_number_is_no_parity() -> None:
    with pytest.raises(PlanError, match="least cosine nan"):
        gated(UNIT, np.full_like(UNIT, np.nan), 0.5)
    with pytest.raises(PlanError, match=r"embeddings are \[3, 2\], the ONNX file's \[3, 4\]"):
        gated(UNIT, UNIT[:, :2], 0.5)
    with pytest.raises(PlanError, match="no photo to check the plan with"):
        gated(UNIT[:0], UNIT[:0], 0.5)


class Workshop:
    """Makes "plans" that are their ONNX, and runs them in ONNX Runtime: all of the way but TensorRT itself."""

    def __init__(self) -> None:
        self.built: list[Path] = []  # where timings were to be kept
        self.sizes: list[int] = []
        self.wrong = 0.0  # what a run adds to each number, before it is made a unit vector again

    def maker(self) -> Maker:
        return Maker("a GPU", self._build, self._run)

    def _build(self, onnx_file: Path, settings: PlanSettings, timings: Path) -> bytes:
        self.built.append(timings)
        return onnx_file.read_bytes()

    def _run(self, plan: bytes, images: NDArray[np.uint8], sizes: Sequence[int]) -> NDArray[np.float32]:
        self.sizes = list(sizes)
        session = onnxruntime.InferenceSession(plan, providers=["CPUExecutionProvider"])
        batches = [session.run(["embedding"], {"image": batch})[0] for batch in batches_of(images, sizes)]
        vectors = np.concatenate(batches) + self.wrong
        made: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return made


class Site(NamedTuple):
    """Where a plan is made, and for which network."""

    onnx: Path
    plans: Path
    model: Path
    key: PlanKey


@pytest.fixture
def site(tiny: Tiny, tmp_path: Path) -> Site:
    onnx, model = tmp_path / "embedder.fp16.onnx", tmp_path / "embed" / "1"
    shutil.copyfile(tiny.repository / "embed" / "1" / "model.onnx", onnx)
    write_form(model / "network.json", NetworkHashes(fp32="cd" * 32, fp16=sha256_of(onnx)))
    return Site(onnx, tmp_path / "plans", model, KEY.model_copy(update={"onnx_sha256": sha256_of(onnx)}))


def make(workshop: Workshop, site: Site, tiny: Tiny, recipe: PlanRecipe = RECIPE) -> Sidecar:
    images = network_inputs(tiny.photos, PREPROCESSING, recipe.parity_photos)
    return make_plan(workshop.maker(), site.key, site.onnx, recipe, images, site.plans, site.model, 1)


def test_a_plan_is_built_checked_placed_and_taken_by_the_server(tiny: Tiny, site: Site) -> None:
    workshop = Workshop()
    made = make(workshop, site, tiny)
    assert workshop.built == [site.plans / "timings-trt11.4.0.106-sm90.cache"]
    assert workshop.sizes == [1, 4, 8]
    assert (made.parity_photos, made.least_cosine) == (13, 1.0)
    assert check_plan(site.model, Host("11.4.0.106", (Gpu("a GPU", "9.0"),))) == []
    assert (site.model / "model.plan").read_bytes() == (site.plans / site.key.name).read_bytes()


def test_a_plan_is_built_once_and_anew_for_other_settings(tiny: Tiny, site: Site) -> None:
    workshop = Workshop()
    for _ in range(2):
        make(workshop, site, tiny)
    assert len(workshop.built) == 1
    higher = SETTINGS.model_copy(update={"level": 5})
    made = make(workshop, site, tiny, RECIPE.model_copy(update={"settings": higher}))
    assert len(workshop.built) == 2
    assert made.settings.level == 5


def test_a_plan_that_answers_otherwise_is_not_placed_and_the_one_before_stays(tiny: Tiny, site: Site) -> None:
    workshop = Workshop()
    first = make(workshop, site, tiny)
    workshop.wrong = 0.1
    with pytest.raises(PlanError, match=r"least cosine 0\.\d+ on 13 photos \(wanted 0.999\); it was not placed"):
        make(workshop, site, tiny)
    assert read_written(site.model / "model.plan.json", Sidecar) == first


def kept(folder: Path) -> tuple[Path, Sidecar]:
    plan = folder / KEY.name
    plan.write_bytes(b"a plan")
    beside = Sidecar(
        key=KEY, gpu="a GPU", plan_sha256=sha256_of(plan), settings=SETTINGS, parity_photos=9, least_cosine=0.9999
    )
    write_form(sidecar_of(plan), beside)
    return plan, beside


def test_a_plan_is_kept_for_the_same_key_and_settings(tmp_path: Path) -> None:
    plan, _ = kept(tmp_path)
    assert is_kept(plan, KEY, SETTINGS)
    assert not is_kept(plan, KEY, SETTINGS.model_copy(update={"level": 5}))
    assert not is_kept(plan, KEY.model_copy(update={"tensorrt": "11.3.0.99"}), SETTINGS)
    plan.write_bytes(b"half")
    assert not is_kept(plan, KEY, SETTINGS)
    sidecar_of(plan).write_text("{}")
    assert not is_kept(plan, KEY, SETTINGS)
    sidecar_of(plan).unlink()
    assert not is_kept(plan, KEY, SETTINGS)


def test_what_is_placed_is_what_the_server_takes(tmp_path: Path) -> None:
    plan, beside = kept(tmp_path)
    model = tmp_path / "embed" / "1"
    place_plan(plan, beside, model)
    write_form(model / "network.json", NetworkHashes(fp32="cd" * 32, fp16="ab" * 32))
    assert check_plan(model, Host("11.4.0.106", (Gpu(beside.gpu, "9.0"),))) == []
    remove_plan(model)
    assert [path.name for path in model.iterdir()] == ["network.json"]


def test_network_inputs_of_shards_and_of_files_are_the_same(tiny: Tiny, tmp_path: Path) -> None:
    rows = read_images(tiny.photos).to_pylist()
    with ShardReader(tiny.photos) as reader:
        for number, row in enumerate(rows):
            content = reader.read(row["shard"], row["offset"], row["size"])
            (tmp_path / f"{number:03}.png").write_bytes(content)
    (tmp_path / "000a.png").write_bytes(b"broken")
    from_shards = network_inputs(tiny.photos, PREPROCESSING, 5)
    assert from_shards.shape == (5, 48, 48, 3)
    np.testing.assert_array_equal(from_shards, network_inputs(tmp_path, PREPROCESSING, 5))
    np.testing.assert_array_equal(from_shards[1], pixels((tmp_path / "001.png").read_bytes(), PREPROCESSING))
    assert len(network_inputs(tmp_path, PREPROCESSING, 1000)) == len(rows)


def test_a_folder_without_photos(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"no photos there; name a folder with some: --photos"):
        network_inputs(tmp_path, PREPROCESSING, 5)


@pytest.mark.skipif(readiness().ready, reason="a plan can be built here")
def test_without_a_gpu_no_plan_is_tried_and_it_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan"]) == 2
    assert main(["plan", "--check"]) == 2
    assert "a plan cannot be built here: " in capsys.readouterr().err


@pytest.mark.skipif(not readiness().ready, reason=f"no plan can be built here: {readiness().reason}")
def test_on_a_gpu_tensorrt_builds_the_plan_and_again_from_its_timings(tiny: Tiny, site: Site, tmp_path: Path) -> None:
    write_form(tmp_path / "plan.json", RECIPE)
    repository = tmp_path / "triton_repo"
    shutil.copytree(tiny.repository, repository)
    shutil.copyfile(site.model / "network.json", repository / "embed" / "1" / "network.json")
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    options = [f"--onnx={site.onnx}", f"--recipe={tmp_path / 'plan.json'}", f"--photos={tiny.photos}"]
    args = parser.parse_args([*options, f"--repository={repository}", f"--plans={site.plans}"])
    assert run(args) == 0
    placed = repository / "embed" / "1" / "model.plan"
    made = read_written(placed.with_name("model.plan.json"), Sidecar)
    assert made.least_cosine >= 0.999
    assert made.key == key_here(site.onnx)
    assert made.gpu == torch.cuda.get_device_name()
    (timings,) = site.plans.glob("*.cache")
    assert timings.stat().st_size > 0
    (site.plans / made.key.name).unlink()
    assert run(args) == 0
    again = read_written(placed.with_name("model.plan.json"), Sidecar)
    assert (again.key, again.settings) == (made.key, made.settings)
