"""Triton's entry into `retrieve`: unit vectors to an answer. The work is in cairn.serving.retrieving."""

from __future__ import annotations

from typing import Any

from cairn.serving.requests import answer_together, version_folder
from cairn.serving.retrieving import Retriever


class TritonPythonModel:
    """Called by Triton's Python backend."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the index, the names and the rule of the answer."""
        self._retrieve = Retriever(version_folder(args), int(args["model_version"]))

    def execute(self, requests: list[Any]) -> list[Any]:
        """A response a request, from one search over all of them."""
        return answer_together(requests, "embedding", self._retrieve, errors_too=True)
