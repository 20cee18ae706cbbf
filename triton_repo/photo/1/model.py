"""Triton's entry into `photo`: image ids to photos of the index. The work is in cairn.serving.showing."""

from __future__ import annotations

from typing import Any

import numpy as np

from cairn.serving.requests import input_of
from cairn.serving.showing import IndexPhotos
from cairn.serving.single import answer_one, repository_of


class TritonPythonModel:
    """Called by Triton's Python backend."""

    def initialize(self, args: dict[str, str]) -> None:
        """Nothing is opened before it is asked for."""
        self._photos = IndexPhotos.of_server(repository_of(args))

    def execute(self, requests: list[Any]) -> list[Any]:
        """A response a request; an id that is not known fails its own request only."""
        return [answer_one(request, self._show) for request in requests]

    def _show(self, request: Any) -> dict[str, Any]:
        ids = [image_id.decode(errors="replace") for image_id in input_of(request, "image_id").ravel()]
        photos = [self._photos.read(self._photos.find(image_id)) for image_id in ids]
        return {"photo": np.array(photos, dtype=np.object_)[:, None]}
