"""How near, how many and in how many dimensions embeddings lie: what makes them hard to search. Real and made ones.

    python benchmarks/vector_shape.py [--real vectors.npz]

Prints the figures of real photos beside those of made ones (`made_vectors.py`), as many of as many landmarks. The real
ones here are of 3,362 photos of 24 monuments and 400 others, by ViT-tiny and MobileNetV2 joined, off the shelf
(`embed_folder.py`); --real compares with your own. Of near duplicates (cosine over .93) one is kept; vectors are
centred and turned to their first 512 principal axes. A quarter of the landmarks' photos, and all others, are queries.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from made_vectors import DIMENSIONS, Made, World
from numpy.typing import NDArray

DUPLICATES = 0.93
NEAR = 20  # neighbours that the dimension is estimated from
SIZES = (80, 87, 157, 59, 59, 223, 37, 71, 42, 113, 181, 247, 121, 156, 311, 164, 43, 116, 94, 311, 124, 227, 177, 162)
OTHERS = 400
REAL: dict[str, tuple[float, ...]] = {
    "axes with 50, 90, 99 % of the variance": (23.0, 239.0, 461.0),
    "effective axes (participation ratio)": (54.1,),
    "landmark: cosine of neighbour 1": (0.488, 0.676, 0.783),
    "landmark: cosine of neighbour 10": (0.363, 0.53, 0.657),
    "landmark: cosine of neighbour 100": (0.207, 0.302, 0.394),
    "landmark: local dimension": (13.8,),
    "landmark: nearest of the same landmark": (0.48, 0.675, 0.783),
    "landmark: nearest of another": (0.35, 0.477, 0.597),
    "landmark: any of the same": (0.0117, 0.248, 0.534),
    "landmark: nearest is of the same": (0.944,),
    "distractor: cosine of neighbour 1": (0.233, 0.314, 0.412),
    "distractor: cosine of neighbour 10": (0.176, 0.228, 0.29),
    "distractor: cosine of neighbour 100": (0.0971, 0.125, 0.162),
    "distractor: local dimension": (42.3,),
}


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each of length 1."""
    made: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return made


def prepared(vectors: NDArray[np.float32], landmark_ids: NDArray[np.int64]) -> Made:
    """Real vectors without near duplicates, centred, and turned to their first principal axes."""
    units = unit(vectors)
    kept = np.ones(len(units), dtype=bool)
    for row in range(len(units)):
        if kept[row]:
            kept[row + 1 :] &= units[row + 1 :] @ units[row] <= DUPLICATES
    centred = vectors[kept] - vectors[kept].mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    return Made(unit(centred @ axes[:, ::-1][:, :DIMENSIONS]), landmark_ids[kept])


def dimension(cosines: NDArray[np.float32]) -> float:
    """Local intrinsic dimension by maximum likelihood (Levina and Bickel 2004, as MacKay and Ghahramani correct it).

    cosines: of each query to its NEAR nearest, falling, [queries, NEAR]
    """
    distances = np.sqrt(np.maximum(2 - 2 * cosines.astype(np.float64), 1e-12))
    return float(1 / np.log(distances[:, -1:] / distances[:, :-1]).mean())


def figures(made: Made) -> dict[str, tuple[float, ...]]:
    """Every figure; quantiles are the tenth, the middle and the ninetieth of a hundred."""
    shown = made.landmark_ids >= 0
    asked = (np.random.default_rng(1).random(len(shown)) < 0.25) & shown
    index, labels = made.vectors[shown & ~asked], made.landmark_ids[shown & ~asked]
    values = np.linalg.eigvalsh(np.cov(made.vectors.T))[::-1]
    shares = np.cumsum(values) / values.sum()
    found: dict[str, tuple[float, ...]] = {
        "axes with 50, 90, 99 % of the variance": tuple(float((shares < part).sum() + 1) for part in (0.5, 0.9, 0.99)),
        "effective axes (participation ratio)": (float(values.sum() ** 2 / (values**2).sum()),),
    }
    for name, queries in (("landmark", asked), ("distractor", ~shown)):
        cosines = made.vectors[queries] @ index.T
        near = -np.sort(-cosines, axis=1)[:, :100]
        for place in (1, 10, 100):
            found[f"{name}: cosine of neighbour {place}"] = _quantiles(near[:, place - 1])
        found[f"{name}: local dimension"] = (dimension(near[:, :NEAR]),)
        if name == "landmark":
            same = made.landmark_ids[queries][:, None] == labels
            right, wrong = (np.where(which, cosines, -2).max(axis=1) for which in (same, ~same))
            found["landmark: nearest of the same landmark"] = _quantiles(right)
            found["landmark: nearest of another"] = _quantiles(wrong)
            found["landmark: any of the same"] = _quantiles(cosines[same])
            found["landmark: nearest is of the same"] = (float((right > wrong).mean()),)
    return found


def _quantiles(values: NDArray[np.float32]) -> tuple[float, ...]:
    return tuple(float(value) for value in np.quantile(values, (0.1, 0.5, 0.9)))


def alike(sizes: NDArray[np.int64], others: int) -> Made:
    """Made photos of landmarks with so many each, and others."""
    world = World(DIMENSIONS, 0)
    shown, rest = world.photos(sizes, 0), world.distractors(others, 0)
    return Made(*(np.concatenate(pair) for pair in zip(shown, rest, strict=True)))


def compare(real: Path | None) -> None:
    """Print both columns."""
    if real is None:
        wanted, sizes, others = REAL, np.array(SIZES), OTHERS
    else:
        with np.load(real) as parts:
            vectors = prepared(parts["vectors"], parts["landmark_ids"])
        shown = vectors.landmark_ids[vectors.landmark_ids >= 0]
        wanted, sizes, others = figures(vectors), np.bincount(shown), len(vectors.landmark_ids) - len(shown)
    got = figures(alike(sizes[sizes > 0], others))
    print(f"{'':40}{'real':>24}{'made':>24}")
    for name, values in wanted.items():
        print(f"{name:40}{_text(values):>24}{_text(got[name]):>24}")


def _text(values: tuple[float, ...]) -> str:
    return "  ".join(f"{value:.0f}" if value > 2 else f"{value:.2f}" for value in values)


def main() -> None:
    """Print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, help="what embed_folder.py wrote")
    compare(parser.parse_args().real)


if __name__ == "__main__":
    main()
