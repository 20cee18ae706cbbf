"""Between plain data and Triton's tensors: what is asked, what an answer says, what an error means. Sends nothing."""

from __future__ import annotations

import math
import random
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from cairn.client.answers import Answer, Match, Neighbour, PhotoError, ServerUnavailable, Verified
from cairn.client.options import Options

LANDMARK, VERIFY, PHOTO = "landmark", "verify", "photo"  # the server's models
NONE = -1  # the server's landmark id where there is none, and its inliers where nothing was compared
GRPC_LIMIT = 2**31 - 1  # bytes of a message
RECONNECT_MS = 1000  # between attempts at most, however long the server was away
REQUEST_MB = 16  # of several photos together
CHECK = 5  # neighbours that are compared point by point
MOST_CHECKED = 10
VERIFIED_AT_ONCE = 8  # requests: comparing takes long, and a photo's time runs while it waits

Row = Mapping[str, NDArray[Any]]  # a photo's outputs by name

_PREFIX = secrets.token_hex(4)
_numbers = count(1)


def _next_id() -> str:
    """No two requests of any clients have the same id."""
    return f"{_PREFIX}-{next(_numbers)}"


@dataclass(frozen=True)
class Question:
    """One request. Its id stays the same when it is sent again."""

    model: str
    tensor: grpc.InferInput
    photos: tuple[bytes, ...] = ()
    parameters: dict[str, int] = field(default_factory=dict)
    request_id: str = field(default_factory=_next_id)

    def arguments(self, seconds: float) -> dict[str, Any]:
        """Of Triton's `infer`. All outputs are asked for: of some of an ensemble's, "unexpected deadlock" comes."""
        return {
            "model_name": self.model,
            "inputs": [self.tensor],
            "parameters": self.parameters,
            "request_id": self.request_id,
            "client_timeout": seconds,
        }


class Outcome(NamedTuple):
    """A request and what came of it."""

    question: Question | None  # none for a photo that was never sent
    result: grpc.InferResult | PhotoError


def ask_landmark(photos: Sequence[bytes]) -> Question:
    """What do these photos show?"""
    return Question(LANDMARK, _tensor("photo", [[photo] for photo in photos]), tuple(photos))


def ask_verify(photo: bytes, check: int) -> Question:
    """What does the photo show, and where do its nearest `check` photos match it?"""
    return Question(VERIFY, _tensor("photo", [photo]), (photo,), {"check": check})


def ask_photo(image_id: str) -> Question:
    """The bytes of a photo of the index."""
    return Question(PHOTO, _tensor("image_id", [[image_id.encode()]]))


def _tensor(name: str, values: Sequence[Any]) -> grpc.InferInput:
    array = np.array(values, dtype=np.object_)
    tensor = grpc.InferInput(name, list(array.shape), "BYTES")
    tensor.set_data_from_numpy(array)
    return tensor


def landmark_questions(photos: Iterable[bytes], options: Options) -> Iterator[Question | PhotoError]:
    """Photos in requests, in order; in the place of one that is too large to be sent, the error that says so."""
    group: list[bytes] = []
    for photo in photos:
        error = _too_large(photo, options)
        if group and (error or sum(map(len, group)) + len(photo) > REQUEST_MB * 1e6):
            yield ask_landmark(group)
            group = []
        if error:
            yield error
            continue
        group.append(photo)
        if len(group) == options.photos_a_request:
            yield ask_landmark(group)
            group = []
    if group:
        yield ask_landmark(group)


def verify_questions(photos: Iterable[bytes], check: int, options: Options) -> Iterator[Question | PhotoError]:
    """As `landmark_questions`, one photo a request."""
    return (_too_large(photo, options) or ask_verify(photo, check) for photo in photos)


def alone(question: Question) -> list[Question]:
    """A request to `landmark` of several photos as one of each: refused together, each has a reason of its own."""
    return [ask_landmark([photo]) for photo in question.photos]


def _too_large(photo: bytes, options: Options) -> PhotoError | None:
    if len(photo) <= options.max_photo_mb * 1e6:
        return None
    return PhotoError(f"{len(photo) / 1e6:.1f} MB, over the limit of {options.max_photo_mb:g} MB")


def rows_of(result: grpc.InferResult) -> list[Row | PhotoError]:
    """For each photo of a request to `landmark` its outputs, or why it has none.

    Raises ServerUnavailable if the server's outputs are not this client's.
    """
    outputs = _outputs(result)
    reasons = [reason.decode(errors="replace") for reason in _named(outputs, "error").ravel().tolist()]
    return [
        PhotoError(reason, result.get_response().id) if reason else {name: rows[i] for name, rows in outputs.items()}
        for i, reason in enumerate(reasons)
    ]


def answer_of(row: Row) -> Answer:
    """A photo's outputs as an answer. Raises ServerUnavailable as `rows_of`."""
    landmark_id = int(_named(row, "landmark_id")[0])
    probability = float(_named(row, "probability")[0])
    columns = (
        [i.decode() for i in _named(row, "neighbours").tolist()],
        _named(row, "neighbour_landmark_ids").tolist(),
        [name.decode() for name in _named(row, "neighbour_landmarks").tolist()],
        _named(row, "neighbour_scores").tolist(),
        [text.decode() for text in _named(row, "neighbour_attributions").tolist()],
    )
    return Answer(
        landmark_id=None if landmark_id == NONE else landmark_id,
        landmark=None if landmark_id == NONE else _named(row, "landmark")[0].decode(),
        score=float(_named(row, "score")[0]),
        probability=None if math.isnan(probability) else probability,
        neighbours=[Neighbour(*values) for values in zip(*columns, strict=True) if values[0]],
        index_version=int(_named(row, "index_version")[0]),
    )


def verified_of(result: grpc.InferResult) -> Verified:
    """The outputs of `verify`. Raises ServerUnavailable as `rows_of`."""
    row = _outputs(result)
    answer = answer_of(row)
    inliers = _named(row, "inliers").tolist()[: len(answer.neighbours)]
    return Verified(
        answer=answer,
        inliers=[None if number == NONE else number for number in inliers],
        matches=[Match(int(first), *rest) for first, *rest in _named(row, "matches").tolist()],
    )


def photo_of(result: grpc.InferResult) -> bytes:
    """The output of `photo`. Raises ServerUnavailable as `rows_of`."""
    content: bytes = _named(_outputs(result), "photo")[0, 0]
    return content


def stacked(rows: Sequence[Row | PhotoError]) -> NDArray[np.float32]:
    """The embeddings, float32 [photos, dimensions]. Raises PhotoError, naming the position, at the first without."""
    vectors = []
    for position, row in enumerate(rows):
        if isinstance(row, PhotoError):
            raise PhotoError(f"photo {position}: {row}", row.request_id) from row
        vectors.append(_named(row, "embedding"))
    return np.stack(vectors) if vectors else np.empty((0, 0), dtype=np.float32)


def _outputs(result: grpc.InferResult) -> dict[str, NDArray[Any]]:
    return {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}


def _named(row: Row, name: str) -> NDArray[Any]:
    if name not in row:
        raise ServerUnavailable(
            f"the server gives no `{name}` with its answers, only {', '.join(row)}; it serves another version of cairn"
        )
    return row[name]


@dataclass(frozen=True)
class Line:
    """An address and how to ask there: what a synchronous and an asynchronous client share."""

    address: str  # host:port of gRPC
    timeout_s: float  # for each photo, all attempts together
    options: Options

    def connection(self) -> dict[str, Any]:
        """Arguments of Triton's clients."""
        tls = self.options.tls
        names = ("root_certificates", "certificate_chain", "private_key")
        files = () if tls is None else zip(names, (tls.ca, tls.certificate, tls.key), strict=True)
        first = round(self.options.first_wait_s * 500)  # gRPC must try the connection again before we ask again
        return {
            "url": self.address,
            "ssl": tls is not None,
            **{name: str(path) for name, path in files if path is not None},
            "channel_args": [
                ("grpc.max_send_message_length", GRPC_LIMIT),
                ("grpc.max_receive_message_length", GRPC_LIMIT),
                ("grpc.min_reconnect_backoff_ms", round(self.options.connect_timeout_s * 1000)),
                ("grpc.initial_reconnect_backoff_ms", max(first, 1)),
                ("grpc.max_reconnect_backoff_ms", RECONNECT_MS),
            ],
        }

    def seconds(self, question: Question) -> float:
        """How long a request may take, all attempts together."""
        return self.timeout_s * max(1, len(question.photos))

    def verified_at_once(self) -> int:
        """Requests to `verify` under way."""
        return min(self.options.in_flight, VERIFIED_AT_ONCE)

    def not_ready(self) -> ServerUnavailable:
        """What a server is that runs without its models."""
        return ServerUnavailable(f"{self.address}: a server is there, but its model `{LANDMARK}` is not ready")

    def wait(self, error: InferenceServerException, attempt: int, left_s: float) -> float | None:
        """Seconds to wait after attempt number `attempt` (from 1) failed, or None if there should be no other.

        Asking twice changes nothing, but is of use only where the server was away or had its queue full.
        """
        if error.status() != "StatusCode.UNAVAILABLE" or attempt >= self.options.attempts:
            return None
        wait = self.options.first_wait_s * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)  # clients come back apart
        return wait if wait < left_s else None

    def refusal(self, error: InferenceServerException, question: Question) -> PhotoError:
        """The server's reason, if it refused what was asked. Raises ServerUnavailable for every other error."""
        if error.status() == "StatusCode.INVALID_ARGUMENT":
            return PhotoError(_reason(error), question.request_id)
        raise self.unavailable(error, self.seconds(question), f" (request {question.request_id})") from error

    def unavailable(self, error: InferenceServerException, waited_s: float, asked: str = "") -> ServerUnavailable:
        """What an error of the server, or of the way to it, means; `asked` says what was asked."""
        if error.status() == "StatusCode.UNAVAILABLE" and on_the_way(error):
            way = "start one with `make serve`, or give another address"
            return ServerUnavailable(f"{self.address}: no server answers there; {way}{asked}")
        if error.status() == "StatusCode.DEADLINE_EXCEEDED":
            way = "allow more time if the server is only slow"
            return ServerUnavailable(f"{self.address}: no answer within {waited_s:g} s; {way}{asked}")
        return ServerUnavailable(f"{self.address}: {_reason(error)} ({error.status()}){asked}")


def _reason(error: InferenceServerException) -> str:
    return re.sub(r"^in ensemble '\w+', ", "", str(error.message()))


def on_the_way(error: InferenceServerException) -> bool:
    """Whether gRPC itself gave up, rather than a server that was reached."""
    ways = "failed to connect|connections to all|Socket closed|Stream removed|Connection reset|GOAWAY"
    return re.search(ways, str(error.message())) is not None
