"""Network inputs to unit vectors with ONNX Runtime: the work of the Triton model `embed` on a CPU."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from cairn.serving.threads import threads

MODEL_FILE = "model.onnx"
INPUT = "image"  # the names in the ONNX graph are Triton's, so that another backend can serve the same file
OUTPUT = "embedding"
PART = 4  # photos at most that one thread embeds at once; of more, what lies between two layers outgrows a core's cache


class OnnxEmbedder:
    """The exported network."""

    def __init__(self, folder: Path) -> None:
        """Raises FileNotFoundError if model.onnx is missing, ValueError if its tensors have other names."""
        path = folder / MODEL_FILE
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file; run `make repro`")
        self._session = _session(path, threads())
        # A thread to each part of a batch is faster than all threads to the whole: they never wait for one another.
        self._parts = _session(path, 1) if threads() > 1 else self._session
        self._pool = ThreadPoolExecutor(threads(), thread_name_prefix="embed")
        inputs = [value.name for value in self._session.get_inputs()]
        outputs = [value.name for value in self._session.get_outputs()]
        if inputs != [INPUT] or outputs != [OUTPUT]:
            raise ValueError(f"{path}: maps {inputs} to {outputs}; wanted {[INPUT]} to {[OUTPUT]}")
        self._shape = self._session.get_inputs()[0].shape[1:]

    def __call__(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Images, RGB uint8 [n, size, size, 3] -> `embedding`, float32 [n, dimensions], unit vectors.

        Raises ValueError if the network is made for another size.
        """
        if any(isinstance(want, int) and want != got for want, got in zip(self._shape, images.shape[1:], strict=True)):
            raise ValueError(f"images are {list(images.shape[1:])}, the network takes {self._shape}")
        if len(images) == 1:  # waited for by somebody: all threads share it
            return {OUTPUT: _run(self._session, images)}
        rounds = math.ceil(len(images) / (PART * threads()))  # in each of which every thread has a part
        parts = np.array_split(images, min(len(images), rounds * threads()))
        return {OUTPUT: np.concatenate(list(self._pool.map(lambda part: _run(self._parts, part), parts)))}


def _session(path: Path, intra_op: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = intra_op
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leave the cores to the other models
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _run(session: onnxruntime.InferenceSession, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    (embeddings,) = session.run([OUTPUT], {INPUT: images})
    return np.asarray(embeddings, dtype=np.float32)
