"""Photos to answers over gRPC: one request a photo, several under way, so that the server can batch them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

DEFAULT_ADDRESS = "127.0.0.1:8001"
MODEL = "landmark"
IN_FLIGHT = 32  # requests; half of the server's largest batch keeps the next one filling while one is worked on
NONE = -1  # the server's landmark id where there is none


class ServerUnavailable(ConnectionError):
    """No server there, or one that does not answer; the message says the address and the way out."""


class PhotoError(ValueError):
    """The server could not answer for this photo; the message is the server's reason."""


@dataclass(frozen=True)
class Neighbour:
    """A photo of the index that looks like the one asked about."""

    image_id: str  # 16 hexadecimal characters
    landmark_id: int
    score: float  # cosine, -1 to 1


@dataclass(frozen=True)
class Answer:
    """What a photo shows. Without a landmark, score and probability are those of the best one, which was too low."""

    landmark_id: int | None
    landmark: str | None
    score: float
    probability: float | None  # that the best landmark is right; none if the server has not learnt how sure to be
    neighbours: list[Neighbour]  # best first


class Client:
    """A connection to the server; close it, or use it as a context manager."""

    def __init__(self, address: str = DEFAULT_ADDRESS, timeout_s: float = 30.0) -> None:
        """`address` is host:port of gRPC; `timeout_s` holds for each photo. Nothing is sent yet."""
        self._address, self._timeout_s = address, timeout_s
        self._triton = grpc.InferenceServerClient(address)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop the connection."""
        self._triton.close()

    def check(self) -> None:
        """Raises ServerUnavailable if no server is there or it does not serve landmarks."""
        try:
            ready = self._triton.is_model_ready(MODEL, client_timeout=self._timeout_s)
        except InferenceServerException as error:
            raise self._unavailable(error) from error
        if not ready:
            raise ServerUnavailable(f"{self._address}: a server is there, but its model `{MODEL}` is not ready")

    def query(self, photos: Sequence[bytes]) -> list[Answer | PhotoError]:
        """For each photo (the bytes of an image file) its answer, or why the server refused it.

        Raises ServerUnavailable if the server cannot be reached or does not answer in time.
        """
        return list(self.stream(photos))

    def stream(self, photos: Iterable[bytes]) -> Iterator[Answer | PhotoError]:
        """As `query`, but photo by photo in order: of `photos` only as many are held as are under way."""
        for result in self._ask(photos):
            yield result if isinstance(result, PhotoError) else _answer(result)

    def embeddings(self, photos: Sequence[bytes]) -> NDArray[np.float32]:
        """Unit vectors float32 [photos, dimensions]; [0, 0] without photos.

        Raises PhotoError, naming the photo's position, at the first one that the server refused, and
        ServerUnavailable as `query`.
        """
        rows = []
        for position, result in enumerate(self._ask(photos)):
            if isinstance(result, PhotoError):
                raise PhotoError(f"photo {position}: {result}") from result
            rows.append(_tensor(result, "embedding"))
        return np.stack(rows) if rows else np.empty((0, 0), dtype=np.float32)

    def _ask(self, photos: Iterable[bytes]) -> Iterator[grpc.InferResult | PhotoError]:
        pending: deque[Future[grpc.InferResult]] = deque()
        for photo in photos:
            if len(pending) == IN_FLIGHT:
                yield self._outcome(pending.popleft())
            pending.append(self._send(photo))
        while pending:
            yield self._outcome(pending.popleft())

    def _send(self, photo: bytes) -> Future[grpc.InferResult]:
        """Ask for all outputs: asked for some of an ensemble's, Triton answers with "unexpected deadlock"."""
        tensor = grpc.InferInput("photo", [1, 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[photo]], dtype=np.object_))
        future: Future[grpc.InferResult] = Future()

        def done(result: grpc.InferResult | None, error: InferenceServerException | None) -> None:
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        self._triton.async_infer(MODEL, [tensor], done, client_timeout=self._timeout_s)
        return future

    def _outcome(self, future: Future[grpc.InferResult]) -> grpc.InferResult | PhotoError:
        try:
            return future.result()
        except InferenceServerException as error:
            if error.status() == "StatusCode.INVALID_ARGUMENT":
                return PhotoError(_reason(error))
            raise self._unavailable(error) from error

    def _unavailable(self, error: InferenceServerException) -> ServerUnavailable:
        if error.status() == "StatusCode.UNAVAILABLE":
            return ServerUnavailable(
                f"{self._address}: no server answers there; start one with `make serve`, or give another address"
            )
        if error.status() == "StatusCode.DEADLINE_EXCEEDED":
            return ServerUnavailable(
                f"{self._address}: no answer within {self._timeout_s:g} s; allow more time if the server is only slow"
            )
        return ServerUnavailable(f"{self._address}: {_reason(error)} ({error.status()})")


def _reason(error: InferenceServerException) -> str:
    return str(error.message()).removeprefix(f"in ensemble '{MODEL}', ")


def _tensor(result: grpc.InferResult, name: str) -> NDArray[Any]:
    """An output's only row."""
    row: NDArray[Any] = result.as_numpy(name)[0]
    return row


def _answer(result: grpc.InferResult) -> Answer:
    landmark_id = int(_tensor(result, "landmark_id")[0])
    name = _tensor(result, "landmark")[0].decode()
    columns = (_tensor(result, n) for n in ("neighbours", "neighbour_landmark_ids", "neighbour_scores"))
    rows = zip(*columns, strict=True)
    probability = float(_tensor(result, "probability")[0])
    return Answer(
        landmark_id=None if landmark_id == NONE else landmark_id,
        landmark=None if landmark_id == NONE else name,
        score=float(_tensor(result, "score")[0]),
        probability=None if math.isnan(probability) else probability,
        neighbours=[Neighbour(i.decode(), int(shown), float(score)) for i, shown, score in rows if i],
    )
