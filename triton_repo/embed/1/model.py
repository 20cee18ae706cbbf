"""Triton's entry into `embed` on a CPU: images to unit vectors. The work is in cairn.serving.embedding."""

from __future__ import annotations

from typing import Any

from cairn.serving.embedding import OnnxEmbedder
from cairn.serving.requests import answer_together, version_folder


class TritonPythonModel:
    """Called by Triton's Python backend."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open model.onnx."""
        self._embed = OnnxEmbedder(version_folder(args))

    def execute(self, requests: list[Any]) -> list[Any]:
        """A response a request, from one run over all of them."""
        return answer_together(requests, "image", self._embed)
