"""export: bring the network, the index and the answer's rule into the Triton model repository.

Writes the network as FP32 and FP16 ONNX and checks both against the trained one on validation photos: cosine of the
embeddings and agreement of the answers. Builds the TensorRT plan where a GPU and TensorRT are present, and says plainly
where they are not. Makes build/export/, the data files of triton_repo/ and the configurations of its model `embed`.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cairn.answering.preprocess import pixels
from cairn.embedding import embed
from cairn.export.onnx import HalfEmbedder, write_onnx
from cairn.export.onnx_run import run_onnx
from cairn.export.parity import Parity, compare
from cairn.export.repository import EMBED, place
from cairn.export.tensorrt import key_here, make_plan, readiness, remove_plan, tensorrt_maker
from cairn.export.triton_configs import NetworkSizes, write_configs
from cairn.files import write_form, written_aside
from cairn.locations import Location, Readers
from cairn.networks.embedder import Embedder, load_embedder
from cairn.params import ExportParams
from cairn.retrieval.answer import rule_of
from cairn.retrieval.context import CONTEXT_FOLDER, open_context
from cairn.retrieval.index import PhotoIndex
from cairn.retrieval.rerankers.chain import build_chain
from cairn.serving.plans import RECIPE_FILE, PlanRecipe, PlanSettings
from cairn.sides import embedding_locations, read_sides
from cairn.stage import BUILD, CLEAN, EVALUATION, EXPORT, INDEX, MODEL, Job, Report, StageError, run, use_threads

FILES = {"fp32": "embedder.fp32.onnx", "fp16": "embedder.fp16.onnx"}
PLANS = BUILD / "plans"


def export(job: Job) -> Report:
    use_threads(job.params)
    params = job.params.export
    embedder = load_embedder(MODEL)
    how = embedder.config.preprocessing
    places = validation_photos(params)
    images = photos(embedder, places)
    recipe = recipe_of(params, how.size)
    with written_aside(EXPORT) as folder:
        folder.mkdir()
        for precision, network in (("fp32", embedder), ("fp16", HalfEmbedder(embedder))):
            write_onnx(network, how, folder / FILES[precision], params.opset, params.max_batch)
        write_form(folder / RECIPE_FILE, recipe)
        parity = measure(embed(embedder, places, 16), images, folder, params, job.params.threads)
    remove_plan(EMBED / "1")
    place(EXPORT / FILES["fp32"], EXPORT / FILES["fp16"], how, INDEX, CLEAN / "landmarks.parquet", EVALUATION)
    sizes = NetworkSizes(how.size, embedder.config.dimensions, params.max_batch, params.profile.max)
    write_configs(EMBED, sizes, params.batching)
    plan = plan_where_possible(recipe, images, params, job.params.threads)
    files = {f"{name}_bytes": (EXPORT / file).stat().st_size for name, file in FILES.items()}
    return Report({**files, "parity": {k: asdict(v) for k, v in parity.items()}, "tensorrt": plan})


def recipe_of(params: ExportParams, size: int) -> PlanRecipe:
    """What `cairn plan` needs of the params, wherever it runs."""
    settings = PlanSettings(
        size=size, opt_batch=params.profile.opt, max_batch=params.profile.max, **params.builder.model_dump()
    )
    return PlanRecipe(settings=settings, parity_photos=params.parity_photos, min_cosine=params.min_cosine)


def validation_photos(params: ExportParams) -> list[Location]:
    sides = read_sides()
    rows = sides.rows("validation", distractors=True)[: params.parity_photos]
    if len(rows) == 0:
        raise StageError("no validation photo to check the export with; give split.ratios.validation more")
    everywhere = embedding_locations(sides)
    return [everywhere[row] for row in rows]


def measure(
    wanted: NDArray[np.float32], images: NDArray[np.uint8], folder: Path, params: ExportParams, threads: int
) -> dict[str, Parity]:
    """Parity of each ONNX file with the trained network's embeddings. Raises StageError where it is under the gate,
    and as run_onnx.
    """
    index = PhotoIndex.open(INDEX)
    rule = rule_of(EVALUATION)
    chain = build_chain(rule.steps, open_context(EVALUATION / CONTEXT_FOLDER))
    found = {}
    for name, file in FILES.items():
        vectors = run_onnx(folder / file, images, threads)
        found[name] = compare(wanted, vectors, index, rule.neighbours, chain)
        gate(name, found[name], params)
    return found


def photos(embedder: Embedder, places: list[Location]) -> NDArray[np.uint8]:
    readers = Readers()
    return np.stack([pixels(readers.read(place), embedder.config.preprocessing) for place in places])


def gate(name: str, parity: Parity, params: ExportParams) -> None:
    if not (parity.least_cosine >= params.min_cosine and parity.agreement >= params.min_agreement):
        raise StageError(
            f"the {name} ONNX differs from the trained network: least cosine {parity.least_cosine:.6f} (wanted "
            f"{params.min_cosine}), same answer on {parity.agreement:.4f} of {parity.photos} photos (wanted "
            f"{params.min_agreement}); nothing was placed in triton_repo/"
        )


def plan_where_possible(recipe: PlanRecipe, images: NDArray[np.uint8], params: ExportParams, threads: int) -> str:
    """Make the plan if it can be made here; say what was done."""
    if params.tensorrt == "off":
        return "not built: export.tensorrt is off"
    here = readiness()
    if here.ready:
        half = EXPORT / FILES["fp16"]
        made = make_plan(tensorrt_maker(), key_here(half), half, recipe, images, PLANS, EMBED / "1", threads)
        return f"built with {here.reason}, least cosine {made.least_cosine:.6f}"
    if params.tensorrt == "require":
        raise StageError(f"export.tensorrt is `require`, but {here.reason}")
    print(f"TensorRT plan not built: {here.reason}. The ONNX network is served instead, with the same names.")
    return f"not built: {here.reason}"


if __name__ == "__main__":
    run("export", export, __doc__)
