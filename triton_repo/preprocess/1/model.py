"""Triton's entry into `preprocess`: photo bytes to the network's input. The work is in cairn.serving.preparing."""

from __future__ import annotations

from typing import Any

from cairn.serving.preparing import Preparer
from cairn.serving.requests import answer_each, version_folder


class TritonPythonModel:
    """Called by Triton's Python backend."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read preprocess.json."""
        self._prepare = Preparer(version_folder(args))

    def execute(self, requests: list[Any]) -> list[Any]:
        """A response a request; a broken photo has its reason in `error` and harms no other."""
        return answer_each(requests, "photo", "image", self._prepare)
