"""No upload over a limit: the browser's own check can be passed by."""

from __future__ import annotations

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class UploadLimit:
    """Refuses requests that bring more than `most_bytes`, or do not say how much they bring, before reading them."""

    def __init__(self, app: ASGIApp, most_bytes: int) -> None:
        self._app, self._most_bytes = app, most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer with status 411 or 413."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"")
        if not length.isdigit():
            await PlainTextResponse("a length is needed", 411)(scope, receive, send)
        elif int(length) > self._most_bytes:
            await PlainTextResponse(f"over the limit of {self._most_bytes} bytes", 413)(scope, receive, send)
        else:
            await self._app(scope, receive, send)
