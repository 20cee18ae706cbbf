"""The outdoor vote: a photo whose likeliest scenes are indoor ones shows no landmark from outside.

After the triplet system's cleaning of GLDv2, which leaves out of training what has fewer than 3 outdoor scenes among
the top 5 of a Places365 network.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cairn.cleaning.neighbours import Doubts
from cairn.params import SceneParams

WAY_OUT = "set clean.scenes.categories to Places365's IO_places365.txt"


class SceneError(ValueError):
    """A category list that cannot be used."""


def read_outdoor(path: Path) -> NDArray[np.bool_]:
    """Whether each category is an outdoor one, bool [categories], from a file with lines such as `/a/airfield 2`.

    1 means indoor, 2 outdoor. Raises SceneError naming the line otherwise.
    """
    flags = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise SceneError(f"{path}: not UTF-8 ({error}); {WAY_OUT}") from error
    for number, line in enumerate(lines, start=1):
        flag = line.rsplit(" ", 1)[-1]
        if flag not in ("1", "2"):
            raise SceneError(f"{path}, line {number}: {line!r} does not end in 1 (indoor) or 2 (outdoor); {WAY_OUT}")
        flags.append(flag == "2")
    return np.array(flags)


def outdoor_votes(scores: NDArray[np.float32], outdoor: NDArray[np.bool_], top: int) -> NDArray[np.int64]:
    """How many of each photo's `top` likeliest scenes are outdoor; scores [photos, categories].

    Raises SceneError if the network and the list have different numbers of categories.
    """
    if scores.shape[1] != len(outdoor):
        raise SceneError(f"the scene network has {scores.shape[1]} categories, the list {len(outdoor)}")
    likeliest = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    votes: NDArray[np.int64] = outdoor[likeliest].sum(axis=1).astype(np.int64)
    return votes


def doubts_by_scenes(rows: NDArray[np.int64], votes: NDArray[np.int64], params: SceneParams) -> Doubts:
    """Those of `rows` with fewer than params.min_votes outdoor votes; both int64 [some]."""
    few = votes < params.min_votes
    counts = zip(rows[few].tolist(), votes[few].tolist(), strict=True)
    return {row: f"{count} of {params.top} likeliest scenes are outdoors" for row, count in counts}
