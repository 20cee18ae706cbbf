"""export: bring the network, the index and the answer's rule into the Triton model repository.

Writes the network as FP32 and FP16 ONNX and checks both against the trained one on validation photos: cosine of the
embeddings and agreement of the answers. Builds the TensorRT plan where a GPU and TensorRT are present, and says plainly
where they are not. Makes build/export/ and the data files of triton_repo/.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cairn.answering.preprocess import prepare
from cairn.embedding import embed
from cairn.export.onnx import HalfEmbedder, write_onnx
from cairn.export.parity import Parity, compare, onnx_session, run_onnx
from cairn.export.repository import PLAN, place
from cairn.export.tensorrt import build_plan, readiness
from cairn.files import discard, written_aside
from cairn.networks.embedder import Embedder, load_embedder
from cairn.params import ExportParams
from cairn.retrieval.answer import ANSWER_FILE, AnswerRule
from cairn.retrieval.context import CONTEXT_FOLDER, open_context
from cairn.retrieval.index import PhotoIndex
from cairn.retrieval.rerankers.chain import build_chain
from cairn.sides import embedding_locations, read_sides
from cairn.stage import CLEAN, EVALUATION, EXPORT, INDEX, MODEL, Job, Report, StageError, run, use_threads
from cairn.training.photos import Location, Readers

FILES = {"fp32": "embedder.fp32.onnx", "fp16": "embedder.fp16.onnx"}


def export(job: Job) -> Report:
    use_threads(job.params)
    params = job.params.export
    embedder = load_embedder(MODEL)
    with written_aside(EXPORT) as folder:
        folder.mkdir()
        for precision, network in (("fp32", embedder), ("fp16", HalfEmbedder(embedder))):
            write_onnx(
                network, embedder.config.preprocessing.size, folder / FILES[precision], params.opset, params.max_batch
            )
        parity = measure(embedder, folder, params, job.params.threads)
    plan = make_plan(embedder, params)
    landmarks = CLEAN / "landmarks.parquet"
    place(EXPORT / FILES["fp32"], embedder.config.preprocessing, INDEX, landmarks, EVALUATION)
    sizes = {f"{name}_bytes": (EXPORT / file).stat().st_size for name, file in FILES.items()}
    return Report({**sizes, "parity": {k: asdict(v) for k, v in parity.items()}, "tensorrt": plan})


def measure(embedder: Embedder, folder: Path, params: ExportParams, threads: int) -> dict[str, Parity]:
    """Parity of each ONNX file on validation photos. Raises StageError where it is under the params' gate."""
    sides = read_sides()
    rows = sides.rows("validation", distractors=True)[: params.parity_photos]
    if len(rows) == 0:
        raise StageError("no validation photo to check the export with; give split.ratios.validation more")
    everywhere = embedding_locations(sides)
    places = [everywhere[row] for row in rows]
    wanted, images = embed(embedder, places, 16), photos(embedder, places)
    index = PhotoIndex.open(INDEX)
    rule = AnswerRule.model_validate_json((EVALUATION / ANSWER_FILE).read_text())
    chain = build_chain(rule.steps, open_context(EVALUATION / CONTEXT_FOLDER))
    found = {}
    for name, file in FILES.items():
        found[name] = compare(
            wanted, run_onnx(onnx_session(folder / file, threads), images), index, rule.neighbours, chain
        )
        gate(name, found[name], params)
    return found


def photos(embedder: Embedder, places: list[Location]) -> NDArray[np.float32]:
    readers = Readers()
    return np.stack([prepare(readers.read(place), embedder.config.preprocessing) for place in places])


def gate(name: str, parity: Parity, params: ExportParams) -> None:
    if parity.least_cosine < params.min_cosine or parity.agreement < params.min_agreement:
        raise StageError(
            f"the {name} ONNX differs from the trained network: least cosine {parity.least_cosine:.6f} (wanted "
            f"{params.min_cosine}), same answer on {parity.agreement:.4f} of {parity.photos} photos (wanted "
            f"{params.min_agreement}); nothing was placed in triton_repo/"
        )


def make_plan(embedder: Embedder, params: ExportParams) -> str:
    """Build the plan if it can be built here; say what was done. A plan of an older network is removed."""
    discard(PLAN)
    if params.tensorrt == "off":
        return "not built: export.tensorrt is off"
    here = readiness()
    if here.ready:
        build_plan(EXPORT / FILES["fp16"], PLAN, embedder.config.preprocessing.size, params.max_batch)
        return f"built with {here.reason}"
    if params.tensorrt == "require":
        raise StageError(f"export.tensorrt is `require`, but {here.reason}")
    print(f"TensorRT plan not built: {here.reason}. The ONNX network is served instead, with the same names.")
    return f"not built: {here.reason}"


if __name__ == "__main__":
    run("export", export, __doc__)
