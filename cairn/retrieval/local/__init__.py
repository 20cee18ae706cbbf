"""Local features of a photo. A new extractor is one file here and one line in EXTRACTORS."""

from __future__ import annotations

from collections.abc import Callable

from cairn.retrieval.local.features import Extractor
from cairn.retrieval.local.sift import sift

# name -> extractor, from the largest number of features
EXTRACTORS: dict[str, Callable[[int], Extractor]] = {"sift": sift}
