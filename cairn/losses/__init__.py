"""Losses over embeddings. A new one is one file here and one line in LOSSES."""

from __future__ import annotations

from collections.abc import Callable

from cairn.losses.arcface import ArcFace
from cairn.params import Schedule

# name -> head with the loss in it, from (dimensions, classes, schedule)
LOSSES: dict[str, Callable[[int, int, Schedule], ArcFace]] = {
    "arcface": lambda dimensions, classes, p: ArcFace(dimensions, classes, p.arcface.scale, p.arcface.margin),
}
