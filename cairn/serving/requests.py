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
from cairn.serving.memory import tidy

ERROR = "error"  # the output that says why an item failed; empty where it did not


def version_folder(args: Mapping[str, str]) -> Path:
    """The folder of the model version that Triton is loading."""
    return Path(args["model_repository"]) / args["model_version"]


def answer_each(
    requests: Sequence[Any],
    input_name: str,
    output_name: str,
    work: Callable[[Sequence[bytes]], Sequence[NDArray[np.uint8] | DecodeError]],
) -> list[Any]:
    """Run `work` over the items of all requests; outputs are `output_name`, a row an item, and `error`, bytes [n, 1].

    An item that failed comes as zeros with its reason in `error`, the others with an empty one. A request without one
    good item becomes an INVALID_ARG error with the first reason: there is nothing to answer.
    """
    tidy()
    batches = [input_of(request, input_name).ravel().tolist() for request in requests]
    done = work([item for batch in batches for item in batch])
    ends = list(accumulate(len(batch) for batch in batches))
    parts = [done[end - len(batch) : end] for batch, end in zip(batches, ends, strict=True)]
    return [_stacked(part, output_name) for part in parts]


def _stacked(part: Sequence[NDArray[np.uint8] | DecodeError], output_name: str) -> Any:
    good = [item for item in part if not isinstance(item, DecodeError)]
    errors = [str(item) if isinstance(item, DecodeError) else "" for item in part]
    if not good:
        return error_of(errors[0], triton.TritonError.INVALID_ARG)
    blank = np.zeros_like(good[0])
    rows = np.stack([blank if isinstance(item, DecodeError) else item for item in part])
    reasons = np.array([[error.encode()] for error in errors], dtype=np.object_)
    return response_of({output_name: rows, ERROR: reasons})


def answer_together(
    requests: Sequence[Any],
    input_name: str,
    work: Callable[..., Mapping[str, NDArray[Any]]],
    errors_too: bool = False,
) -> list[Any]:
    """Run `work` once over the rows of all requests and give each its rows.

    With `errors_too`, `work` also gets why rows failed before, bytes [rows, 1]; empty where a request does not say.
    If `work` raises ValueError, each request is worked on alone, and becomes an INVALID_ARG error if it raises again:
    vectors that clients send by themselves may be wrong, and spoil no other request.
    """
    try:
        return _answered_together(requests, input_name, work, errors_too)
    except ValueError as error:
        if len(requests) == 1:
            return [error_of(str(error), triton.TritonError.INVALID_ARG)]
        return [one for request in requests for one in answer_together([request], input_name, work, errors_too)]


def _answered_together(
    requests: Sequence[Any], input_name: str, work: Callable[..., Mapping[str, NDArray[Any]]], errors_too: bool
) -> list[Any]:
    tidy()
    batches = [input_of(request, input_name) for request in requests]
    arguments = [np.concatenate(batches)]
    if errors_too:
        parts = [_errors(request, len(batch)) for request, batch in zip(requests, batches, strict=True)]
        arguments.append(np.concatenate(parts))
    outputs = work(*arguments)
    ends = list(accumulate(len(batch) for batch in batches))
    return [
        response_of({name: rows[end - len(batch) : end] for name, rows in outputs.items()})
        for batch, end in zip(batches, ends, strict=True)
    ]


def _errors(request: Any, rows: int) -> NDArray[Any]:
    """The request's `error`, an input that may be left out, bytes [rows, 1]."""
    tensor = triton.get_input_tensor_by_name(request, ERROR)
    given: NDArray[Any] = np.full((rows, 1), b"", dtype=np.object_) if tensor is None else tensor.as_numpy()
    return given


def input_of(request: Any, name: str) -> NDArray[Any]:
    """An input tensor of the request."""
    array: NDArray[Any] = triton.get_input_tensor_by_name(request, name).as_numpy()
    return array


def response_of(outputs: Mapping[str, NDArray[Any]]) -> Any:
    """The response with these outputs."""
    tensors = [triton.Tensor(name, np.ascontiguousarray(array)) for name, array in outputs.items()]
    return triton.InferenceResponse(output_tensors=tensors)


def error_of(message: str, code: int) -> Any:
    """The response that is an error, `code` being Triton's number for its status."""
    return triton.InferenceResponse(error=triton.TritonError(message, code))
