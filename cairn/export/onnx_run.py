"""The exported network in ONNX Runtime on the CPU: what other ways to run it are held against."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from cairn.serving.embedding import INPUT, OUTPUT

BATCH = 16


def onnx_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """The network in ONNX Runtime on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_onnx(path: Path, images: NDArray[np.uint8], threads: int) -> NDArray[np.float32]:
    """Unit vectors float32 [photos, dimensions] of RGB images uint8 [photos, size, size, 3].

    Raises ValueError if some are not finite.
    """
    session = onnx_session(path, threads)
    found = np.concatenate([session.run([OUTPUT], {INPUT: batch})[0] for batch in _batches(images)])
    broken = int((~np.isfinite(found)).any(axis=1).sum())
    if broken:
        raise ValueError(
            f"{path}: {broken} of {len(found)} embeddings are no numbers; values inside the network are too large for "
            "its precision (FP16 ends at 65,504): train it with a lower learning rate, or another backbone"
        )
    return found


def _batches(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    return (images[start : start + BATCH] for start in range(0, len(images), BATCH))
