"""Extractors of local features that need a network. A new one is one file here and one line in EXTRACTORS.

SIFT, which needs none, is in `cairn.retrieval.local`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cairn.networks.keypoints import aliked, delf
from cairn.retrieval.local.features import Extractor
from cairn.retrieval.rerankers.local_features import LocalFeaturesParams

# name -> extractor, from the step's params, the folder of the trained network, and photos of the train side as RGB
# uint8 [height, width, 3], of which as many are read as it needs
EXTRACTORS: dict[str, Callable[[LocalFeaturesParams, Path, Iterable[NDArray[np.uint8]]], Extractor]] = {
    "aliked": aliked.build,
    "delf": delf.build,
}
