"""The files that `export` puts into the Triton model repository, beside the models' own code and configuration."""

from __future__ import annotations

import shutil
from pathlib import Path

from cairn.answering.preprocess import Preprocessing
from cairn.files import sha256_of, write_form, written_aside
from cairn.gallery.versions import retire
from cairn.retrieval.answer import ANSWER_FILE
from cairn.retrieval.context import CONTEXT_FOLDER
from cairn.retrieval.entries import ENTRIES_FILE
from cairn.retrieval.index import INDEX_FILE
from cairn.serving.plans import NETWORK_FILE, NetworkHashes

REPOSITORY = Path("triton_repo")
PREPROCESSING = REPOSITORY / "preprocess" / "1" / "preprocess.json"
NETWORK = REPOSITORY / "embed" / "1" / "model.onnx"
EMBED = REPOSITORY / "embed"
HASHES = EMBED / "1" / NETWORK_FILE
RETRIEVAL = REPOSITORY / "retrieve" / "1"


def place(
    network: Path, half: Path, preprocessing: Preprocessing, index: Path, landmarks: Path, evaluation: Path
) -> None:
    """Copy network, index, landmarks.parquet, answer.json and context/ into the repository; write preprocess.json.

    network.json says which networks these are; `half` is the FP16 one, which TensorRT plans are built from. Published
    versions of the index that are made from another export are removed.
    """
    write_form(HASHES, NetworkHashes(fp32=sha256_of(network), fp16=sha256_of(half)))
    write_form(PREPROCESSING, preprocessing)
    copies = {
        NETWORK: network,
        RETRIEVAL / INDEX_FILE: index / INDEX_FILE,
        RETRIEVAL / ENTRIES_FILE: index / ENTRIES_FILE,
        RETRIEVAL / "landmarks.parquet": landmarks,
        RETRIEVAL / ANSWER_FILE: evaluation / ANSWER_FILE,
    }
    for target, source in copies.items():
        with written_aside(target) as aside:
            shutil.copyfile(source, aside)
    with written_aside(RETRIEVAL / CONTEXT_FOLDER) as aside:
        shutil.copytree(evaluation / CONTEXT_FOLDER, aside)
    retire(REPOSITORY)
