"""Triton's entry into `verify`: asks `landmark`, then compares. The work is in cairn.serving.verifying."""

from __future__ import annotations

from typing import Any

from cairn.serving.requests import input_of
from cairn.serving.single import AskedFailed, answer_one, ask, outputs_of, parameters_of, repository_of
from cairn.serving.verifying import OUTPUTS, Verifier, checked


class TritonPythonModel:
    """Called by Triton's Python backend."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read how photos are decoded."""
        self._verifier = Verifier.of_server(repository_of(args))
        self._asked = [name for name in outputs_of(args) if name not in OUTPUTS]

    def execute(self, requests: list[Any]) -> list[Any]:
        """A response a request; what `landmark` refuses is refused for the same reason."""
        return [answer_one(request, self._verify) for request in requests]

    def _verify(self, request: Any) -> dict[str, Any]:
        check, photo = checked(parameters_of(request)), input_of(request, "photo")
        try:
            batch = ask("landmark", {"photo": photo[None]}, self._asked, request)
        except AskedFailed:
            self._verifier.check(photo[0])  # its own error, if it is the photo's fault: Triton tells no status here
            raise
        answer = {name: rows[0] for name, rows in batch.items()}
        neighbours = [image_id.decode() for image_id in answer["neighbours"]]
        return {**answer, **self._verifier(photo[0], neighbours, int(answer["index_version"][0]), check)}
