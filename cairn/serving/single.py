"""Between Triton's requests and models that answer them one by one: another model asked first, errors made Triton's.

Only importable inside Triton's Python backend, which brings `triton_python_backend_utils`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import triton_python_backend_utils as triton
from numpy.typing import NDArray

from cairn.photos import DecodeError
from cairn.serving.memory import tidy
from cairn.serving.requests import error_of, response_of
from cairn.serving.showing import PhotosUnavailable, UnknownPhoto
from cairn.serving.verifying import CheckError

# Triton 2.51 hands over the reason of a model that was asked, but always INTERNAL as its status. So end its own reasons
# for being UNAVAILABLE.
BUSY = ("Exceeds maximum queue size", "Request timeout expired")

Tensors = Mapping[str, NDArray[Any]]


class AskedFailed(Exception):
    """Another model could not answer; the message is its reason, `status` Triton's number for it."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status


def repository_of(args: Mapping[str, str]) -> Path:
    """The folder of all models, of which Triton is loading one."""
    return Path(args["model_repository"]).parent


def outputs_of(args: Mapping[str, str]) -> list[str]:
    """Names of the outputs in the model's configuration."""
    return [output["name"] for output in json.loads(args["model_config"])["output"]]


def answer_one(request: Any, work: Callable[[Any], Tensors]) -> Any:
    """The response to a request: the outputs that `work` makes of it, or the error that it raises.

    What the client can mend is INVALID_ARGUMENT, photos that are not there UNAVAILABLE. Any other error is left to
    Triton, which logs it and answers INTERNAL.
    """
    tidy()
    try:
        return response_of(work(request))
    except AskedFailed as error:
        return error_of(str(error), error.status)
    except (CheckError, DecodeError, UnknownPhoto) as error:
        return error_of(str(error), triton.TritonError.INVALID_ARG)
    except PhotosUnavailable as error:
        return error_of(str(error), triton.TritonError.UNAVAILABLE)


def parameters_of(request: Any) -> dict[str, Any]:
    """What the client gave beside the tensors."""
    parameters: dict[str, Any] = json.loads(request.parameters() or "{}")
    return parameters


def ask(model: str, inputs: Tensors, outputs: Sequence[str], request: Any) -> dict[str, NDArray[Any]]:
    """Outputs of another model of this server, for a request that came here. Raises AskedFailed."""
    asked = triton.InferenceRequest(
        model_name=model,
        inputs=[triton.Tensor(name, array) for name, array in inputs.items()],
        requested_output_names=list(outputs),
        request_id=request.request_id(),
        preferred_memory=triton.PreferredMemory(triton.TRITONSERVER_MEMORY_CPU, 0),  # the network may run on a GPU
    )
    response = asked.exec()
    if response.has_error():
        reason = response.error().message()
        raise AskedFailed(reason, triton.TritonError.UNAVAILABLE if reason.endswith(BUSY) else response.error().code())
    return {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}
