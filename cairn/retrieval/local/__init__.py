"""Local features of a photo. An extractor without a network is one file here and one line in EXTRACTORS.

Those that need torch are in `cairn.networks.keypoints`.
"""

from __future__ import annotations

from collections.abc import Callable

from cairn.retrieval.local.features import Extractor
from cairn.retrieval.local.sift import sift

# name -> extractor, from the largest number of features and the strength that one must be over
EXTRACTORS: dict[str, Callable[[int, float], Extractor]] = {"sift": sift}
