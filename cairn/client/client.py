"""Photos to answers over gRPC: several requests under way, so that the server can batch them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from cairn.client import wire
from cairn.client.answers import Answer, PhotoError, Verified
from cairn.client.options import DEFAULT_ADDRESS, DEFAULT_TIMEOUT_S, Options
from cairn.client.wire import Line, Outcome, Question, Row


@dataclass
class _Sent:
    """A request under way."""

    question: Question
    future: Future[grpc.InferResult]
    call: grpc.CallContext
    until: float  # on time.monotonic's clock


class Client:
    """A connection to the server, for any number of threads; close it, or use it as a context manager."""

    def __init__(
        self, address: str = DEFAULT_ADDRESS, timeout_s: float = DEFAULT_TIMEOUT_S, options: Options | None = None
    ) -> None:
        """`address` is host:port of gRPC; `timeout_s` holds for each photo. Nothing is sent yet."""
        self._line = Line(address, timeout_s, options or Options())
        self._triton = grpc.InferenceServerClient(**self._line.connection())

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def options(self) -> Options:
        """As given, or the usual ones."""
        return self._line.options

    def close(self) -> None:
        """Drop the connection."""
        self._triton.close()

    def check(self) -> None:
        """Raises ServerUnavailable if no server is there or it does not serve landmarks."""
        try:
            ready = self._triton.is_model_ready(wire.LANDMARK, client_timeout=self._line.options.connect_timeout_s)
        except InferenceServerException as error:
            raise self._line.unavailable(error, self._line.options.connect_timeout_s) from error
        if not ready:
            raise self._line.not_ready()

    def query(self, photos: Sequence[bytes]) -> list[Answer | PhotoError]:
        """For each photo (the bytes of an image file) its answer, or why it has none.

        Raises ServerUnavailable if the server cannot be reached or does not answer in time.
        """
        return list(self.stream(photos))

    def stream(self, photos: Iterable[bytes]) -> Iterator[Answer | PhotoError]:
        """As `query`, but photo by photo in order: of `photos` only as many are held as are under way."""
        for row in self._rows(wire.landmark_questions(photos, self._line.options)):
            yield row if isinstance(row, PhotoError) else wire.answer_of(row)

    def embeddings(self, photos: Sequence[bytes]) -> NDArray[np.float32]:
        """Unit vectors float32 [photos, dimensions]; [0, 0] without photos.

        Raises PhotoError, naming the photo's position, at the first one without an answer, and ServerUnavailable as
        `query`.
        """
        return wire.stacked(list(self._rows(wire.landmark_questions(photos, self._line.options))))

    def verify(self, photo: bytes, check: int = wire.CHECK) -> Verified:
        """A photo's answer, and how its `check` nearest photos match it, 1 to 10.

        Raises PhotoError if there is no answer, ServerUnavailable as `query`.
        """
        (outcome,) = self.verify_stream([photo], check)
        if isinstance(outcome, PhotoError):
            raise outcome
        return outcome

    def verify_stream(self, photos: Iterable[bytes], check: int = wire.CHECK) -> Iterator[Verified | PhotoError]:
        """As `verify` for photo by photo in order; a photo without an answer has its error in its place."""
        questions = wire.verify_questions(photos, check, self._line.options)
        for _, outcome in self._outcomes(questions, self._line.verified_at_once()):
            yield outcome if isinstance(outcome, PhotoError) else wire.verified_of(outcome)

    def photo(self, image_id: str) -> bytes:
        """The image file of a photo of the index.

        Raises PhotoError if the index has none of that id, ServerUnavailable as `query` and if the server has no
        photos.
        """
        ((_, outcome),) = self._outcomes([wire.ask_photo(image_id)], 1)
        if isinstance(outcome, PhotoError):
            raise outcome
        return wire.photo_of(outcome)

    def _rows(self, questions: Iterable[Question | PhotoError]) -> Iterator[Row | PhotoError]:
        for question, result in self._outcomes(questions, self._line.options.in_flight):
            if not isinstance(result, PhotoError):
                yield from wire.rows_of(result)
            elif question is not None and len(question.photos) > 1:
                yield from self._rows(wire.alone(question))
            else:
                yield result

    def _outcomes(self, questions: Iterable[Question | PhotoError], at_once: int) -> Iterator[Outcome]:
        pending: deque[_Sent | PhotoError] = deque()
        try:
            for question in questions:
                if len(pending) == at_once:
                    yield self._outcome(pending.popleft())
                pending.append(question if isinstance(question, PhotoError) else self._send(question))
            while pending:
                yield self._outcome(pending.popleft())
        finally:  # something is left where the caller has enough or the server is gone
            for sent in pending:
                if isinstance(sent, _Sent):
                    sent.call.cancel()

    def _send(self, question: Question, until: float | None = None) -> _Sent:
        seconds = self._line.seconds(question) if until is None else until - time.monotonic()
        future: Future[grpc.InferResult] = Future()

        def done(result: grpc.InferResult | None, error: InferenceServerException | None) -> None:
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        call = self._triton.async_infer(callback=done, **question.arguments(seconds))
        return _Sent(question, future, call, time.monotonic() + seconds)

    def _outcome(self, sent: _Sent | PhotoError) -> Outcome:
        if isinstance(sent, PhotoError):
            return Outcome(None, sent)
        attempt = 1
        while True:
            try:
                return Outcome(sent.question, sent.future.result())
            except InferenceServerException as error:
                wait = self._line.wait(error, attempt, sent.until - time.monotonic())
                if wait is None:
                    return Outcome(sent.question, self._line.refusal(error, sent.question))
            time.sleep(wait)
            sent, attempt = self._send(sent.question, sent.until), attempt + 1
