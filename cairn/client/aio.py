"""The client for asyncio: the same questions, answers and errors as the synchronous one's."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import aio
from tritonclient.utils import InferenceServerException

from cairn.client import wire
from cairn.client.answers import Answer, PhotoError, Verified
from cairn.client.options import DEFAULT_ADDRESS, DEFAULT_TIMEOUT_S, Options
from cairn.client.wire import Line, Outcome, Question, Row


class AsyncClient:
    """A connection to the server, for one event loop, in which it is made; close it, or use it as a context manager.

    Methods, results and errors are those of cairn.client.Client.
    """

    def __init__(
        self, address: str = DEFAULT_ADDRESS, timeout_s: float = DEFAULT_TIMEOUT_S, options: Options | None = None
    ) -> None:
        """As Client's."""
        self._line = Line(address, timeout_s, options or Options())
        self._triton = aio.InferenceServerClient(**self._line.connection())

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Drop the connection."""
        await self._triton.close()

    async def check(self) -> None:
        """As Client.check."""
        limit = self._line.options.connect_timeout_s
        try:
            ready = await self._triton.is_model_ready(wire.LANDMARK, client_timeout=limit)
        except InferenceServerException as error:
            raise self._line.unavailable(error, limit) from error
        if not ready:
            raise self._line.not_ready()

    async def query(self, photos: Sequence[bytes]) -> list[Answer | PhotoError]:
        """As Client.query."""
        return [outcome async for outcome in self.stream(photos)]

    async def stream(self, photos: Iterable[bytes]) -> AsyncGenerator[Answer | PhotoError, None]:
        """As Client.stream. Close it (contextlib.aclosing) if you leave it before its end."""
        async with aclosing(self._rows(wire.landmark_questions(photos, self._line.options))) as rows:
            async for row in rows:
                yield row if isinstance(row, PhotoError) else wire.answer_of(row)

    async def embeddings(self, photos: Sequence[bytes]) -> NDArray[np.float32]:
        """As Client.embeddings."""
        return wire.stacked([row async for row in self._rows(wire.landmark_questions(photos, self._line.options))])

    async def verify(self, photo: bytes, check: int = wire.CHECK) -> Verified:
        """As Client.verify."""
        (outcome,) = [outcome async for outcome in self.verify_stream([photo], check)]
        if isinstance(outcome, PhotoError):
            raise outcome
        return outcome

    async def verify_stream(
        self, photos: Iterable[bytes], check: int = wire.CHECK
    ) -> AsyncGenerator[Verified | PhotoError, None]:
        """As Client.verify_stream. Close it (contextlib.aclosing) if you leave it before its end."""
        questions = wire.verify_questions(photos, check, self._line.options)
        async with aclosing(self._outcomes(questions, self._line.verified_at_once())) as outcomes:
            async for _, result in outcomes:
                yield result if isinstance(result, PhotoError) else wire.verified_of(result)

    async def photo(self, image_id: str) -> bytes:
        """As Client.photo."""
        result = (await self._outcome(wire.ask_photo(image_id))).result
        if isinstance(result, PhotoError):
            raise result
        return wire.photo_of(result)

    async def _rows(self, questions: Iterable[Question | PhotoError]) -> AsyncGenerator[Row | PhotoError, None]:
        async with aclosing(self._outcomes(questions, self._line.options.in_flight)) as outcomes:
            async for question, result in outcomes:
                if not isinstance(result, PhotoError):
                    for row in wire.rows_of(result):
                        yield row
                elif question is not None and len(question.photos) > 1:
                    async for row in self._rows(wire.alone(question)):
                        yield row
                else:
                    yield result

    async def _outcomes(
        self, questions: Iterable[Question | PhotoError], at_once: int
    ) -> AsyncGenerator[Outcome, None]:
        pending: deque[asyncio.Task[Outcome]] = deque()
        try:
            for question in questions:
                if len(pending) == at_once:
                    yield await pending[0]
                    pending.popleft()
                pending.append(asyncio.create_task(self._outcome(question)))
            while pending:
                yield await pending[0]
                pending.popleft()
        finally:  # something is left where the caller has enough or the server is gone
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def _outcome(self, question: Question | PhotoError) -> Outcome:
        if isinstance(question, PhotoError):
            return Outcome(None, question)
        until, attempt = time.monotonic() + self._line.seconds(question), 1
        while True:
            try:
                result = await self._triton.infer(**question.arguments(until - time.monotonic()))
                return Outcome(question, result)
            except InferenceServerException as error:
                wait = self._line.wait(error, attempt, until - time.monotonic())
                if wait is None:
                    return Outcome(question, self._line.refusal(error, question))
            await asyncio.sleep(wait)
            attempt += 1
