"""Between Triton's requests and plain arrays: batches joined, responses parted, errors made Triton's.

Only importable inside Triton's Python backend, which brings `triton_python_backend_utils`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as triton
from numpy.typing import NDArray

from cairn.photos import DecodeError


def version_folder(args: Mapping[str, str]) -> Path:
    """The folder of the model version that Triton is loading."""
    return Path(args["model_repository"]) / args["model_version"]


def answer_each(
    requests: Sequence[Any],
    input_name: str,
    output_name: str,
    work: Callable[[Sequence[bytes]], Sequence[NDArray[np.float32] | DecodeError]],
) -> list[Any]:
    """Run `work` over the items of all requests; a request with an item that failed becomes an INVALID_ARG error."""
    batches = [_input(request, input_name).ravel().tolist() for request in requests]
    done = work([item for batch in batches for item in batch])
    ends = list(accumulate(len(batch) for batch in batches))
    parts = [done[end - len(batch) : end] for batch, end in zip(batches, ends, strict=True)]
    return [_stacked(part, output_name) for part in parts]


def _stacked(part: Sequence[NDArray[np.float32] | DecodeError], output_name: str) -> Any:
    errors = [item for item in part if isinstance(item, DecodeError)]
    if errors:
        return _error(str(errors[0]), triton.TritonError.INVALID_ARG)
    return _response({output_name: np.stack([item for item in part if not isinstance(item, DecodeError)])})


def answer_together(
    requests: Sequence[Any], input_name: str, work: Callable[[NDArray[Any]], Mapping[str, NDArray[Any]]]
) -> list[Any]:
    """Run `work` once over the rows of all requests and give each its rows.

    A ValueError of `work` becomes every request's INTERNAL error: the models do not fit together, no photo is to blame.
    """
    batches = [_input(request, input_name) for request in requests]
    try:
        outputs = work(np.concatenate(batches))
    except ValueError as error:
        return [_error(str(error), triton.TritonError.INTERNAL) for _ in requests]
    ends = list(accumulate(len(batch) for batch in batches))
    return [
        _response({name: rows[end - len(batch) : end] for name, rows in outputs.items()})
        for batch, end in zip(batches, ends, strict=True)
    ]


def _input(request: Any, name: str) -> NDArray[Any]:
    array: NDArray[Any] = triton.get_input_tensor_by_name(request, name).as_numpy()
    return array


def _response(outputs: Mapping[str, NDArray[Any]]) -> Any:
    tensors = [triton.Tensor(name, np.ascontiguousarray(array)) for name, array in outputs.items()]
    return triton.InferenceResponse(output_tensors=tensors)


def _error(message: str, code: int) -> Any:
    return triton.InferenceResponse(error=triton.TritonError(message, code))
