"""Telling a running server that the index has a new version."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from cairn.client.wire import ask_landmark, on_the_way
from cairn.gallery.versions import MODEL
from cairn.serving.control import Control

POLL_S = 0.05
SAME = 0.98  # cosine: FP16 on a GPU differs by far less, another network by far more


class ServerRefused(RuntimeError):
    """The server could not load the new version; it goes on with the one it has."""


class ServerSilent(ConnectionError):
    """No server answers, or not in time; what it serves is not known."""


class OtherNetwork(RuntimeError):
    """The server was started on another network than the one that the new version is for."""


class Reload(NamedTuple):
    """What the server did."""

    address: str
    seconds: float  # until it was ready


def reload(control: Control, photo: bytes, embedding: NDArray[np.float32], version: int, timeout_s: float) -> Reload:
    """Have the server load the newest version, and wait until it serves `version`.

    It answers with the old one until the new one is loaded. `photo` and `embedding`, float32 [dimensions], are what the
    version's network makes of a photo. Raises OtherNetwork, ServerRefused and ServerSilent.
    """
    start = time.monotonic()
    certificate = control.certificate
    with grpc.InferenceServerClient(control.address, ssl=bool(certificate), root_certificates=certificate) as client:
        try:
            served = _embedded(client, photo, timeout_s)
            likeness = float(served @ embedding) if served.shape == embedding.shape else 0.0
            if likeness < SAME:
                raise OtherNetwork(
                    f"{control.address}: the server runs another network than the repository's (cosine {likeness:.3f} "
                    "of what they make of one photo); start it anew"
                )
            client.load_model(MODEL, headers=control.headers, client_timeout=timeout_s)
            while not client.is_model_ready(MODEL, str(version), client_timeout=timeout_s):
                if time.monotonic() - start > timeout_s:
                    raise ServerSilent(f"{control.address}: version {version} is not ready after {timeout_s:g} s")
                time.sleep(POLL_S)
        except InferenceServerException as error:
            raise _as_ours(error, control.address, timeout_s) from error
    return Reload(control.address, time.monotonic() - start)


def _embedded(client: grpc.InferenceServerClient, photo: bytes, timeout_s: float) -> NDArray[np.float32]:
    result = client.infer(**ask_landmark([photo]).arguments(timeout_s))
    row: NDArray[np.float32] = result.as_numpy("embedding")[0]
    return row


def _as_ours(error: InferenceServerException, address: str, timeout_s: float) -> Exception:
    status = str(error.status()).removeprefix("StatusCode.")
    if "restricted" in str(error.message()):
        return ServerRefused(f"{address}: the key is not this server's ({error.message()})")
    if status == "UNAVAILABLE" and not on_the_way(error):
        return ServerSilent(f"{address}: the server is busy or not ready ({error.message()}); try again")
    if status == "UNAVAILABLE":
        return ServerSilent(f"{address}: no server answers there; start one with `make serve`, or pass --no-reload")
    if status == "DEADLINE_EXCEEDED":
        return ServerSilent(
            f"{address}: not loaded within {timeout_s:g} s; it may still be loading. See the server's log"
        )
    return ServerRefused(f"{address}: the server could not load it: {error.message()} ({status})")
