"""Invented names for landmarks: a kind of building and a place that does not exist."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

STARTS = [
    "Ar",
    "Bel",
    "Cor",
    "Dal",
    "El",
    "Fen",
    "Gal",
    "Har",
    "Il",
    "Jor",
    "Kel",
    "Lor",
    "Mar",
    "Nor",
    "Or",
    "Pel",
    "Quil",
    "Ros",
    "Sel",
    "Tal",
    "Ul",
    "Ver",
    "Wen",
    "Yar",
    "Zel",
]
MIDDLES = ["a", "e", "i", "o", "u", "an", "en", "il", "or", "ar"]
ENDS = [
    "len",
    "mont",
    "dara",
    "ven",
    "wick",
    "by",
    "stad",
    "berg",
    "mira",
    "lune",
    "grad",
    "thos",
    "vale",
    "ria",
    "dor",
    "nesse",
    "holm",
]


def invent(kinds: Sequence[str], rng: np.random.Generator) -> list[str]:
    """A name for each kind in turn ("Tower" -> "Tower of Arlen"); no two are the same, nor are their slugs."""
    taken: set[str] = set()
    names = []
    for kind in kinds:
        name = f"{kind} of {_place(rng)}"
        while slug(name) in taken:
            name = f"{kind} of {_place(rng)}"
        taken.add(slug(name))
        names.append(name)
    return names


def slug(name: str) -> str:
    """The name as a folder's: lower case, words joined by underscores."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _place(rng: np.random.Generator) -> str:
    start, end = STARTS[rng.integers(len(STARTS))], ENDS[rng.integers(len(ENDS))]
    return start + (MIDDLES[rng.integers(len(MIDDLES))] if rng.random() < 0.4 else "") + end
