"""The embedded default data: invented landmarks, rendered from many sides in all weathers, with a crawl's flaws."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from PIL import Image

from cairn.manifest import LANDMARKS, image_id_of
from cairn.params import SyntheticParams
from cairn.progress import progress
from cairn.sources.base import Fetched, Photo, pack
from cairn.sources.synthetic import blemishes
from cairn.sources.synthetic.landmarks import FAMILIES, TWIN_SHARE, Chooser, landmark_mesh
from cairn.sources.synthetic.names import invent, slug
from cairn.sources.synthetic.plan import Shot, plan
from cairn.sources.synthetic.scene import other_scene, photograph
from cairn.sources.synthetic.solids import Mesh

LOOKALIKE_SHARE = 0.4  # of distractors that show a building of the landmarks' families, each seen once

# What a seed is for; each photo has its own, so that neither order nor number of workers matters.
DESIGN, NAMES, PICTURE, FILE = 2, 3, 4, 5


class Landmark(NamedTuple):
    """A landmark's family, name and form."""

    family: str
    name: str
    mesh: Mesh


class SyntheticSource:
    """Renders `cairn.sources.synthetic.plan`; the same params and seed give the same bytes."""

    def __init__(self, params: SyntheticParams, shard_mb: float, seed: int) -> None:
        self.params = params
        self.shard_mb = shard_mb
        self.seed = seed

    def fetch(self, out: Path, keep: Path) -> Fetched:
        """As `Source.fetch`. Nothing is kept for a resumption: all of it is made within a minute.

        Raises SourceError if the counts asked for cannot be met.
        """
        shots = plan(self.params, self.seed)
        landmarks = design(self.params.landmarks, self.seed)
        images = pack(self._photos(shots, landmarks), out, self.shard_mb)
        rows = [
            {"landmark_id": k, "name": landmark.name, "category": landmark.family}
            for k, landmark in enumerate(landmarks)
        ]
        facts = self.params.model_dump(exclude={"size"}) | {"files": len(shots)}
        return Fetched(images, pa.Table.from_pylist(rows, schema=LANDMARKS), facts)

    def _photos(self, shots: list[Shot], landmarks: list[Landmark]) -> Iterator[Photo]:
        for shot in progress(shots, "Rendering", total=len(shots)):
            content, ending = self._file(shot, shots, landmarks)
            folder = "distractors" if shot.label is None else slug(landmarks[shot.label].name)
            name = f"{folder}/{shot.number:06d}.{ending}"
            yield Photo(image_id_of(name), content, shot.label, name, "Cairn synthetic", "CC0-1.0")

    def _file(self, shot: Shot, shots: list[Shot], landmarks: list[Landmark]) -> tuple[bytes, str]:
        rng = self._generator(FILE, shot.number)
        if shot.original is None:
            content, ending = blemishes.encode(self._picture(shot, landmarks), rng)
            return (blemishes.broken(content, rng), ending) if shot.kind == "broken" else (content, ending)
        content, ending = self._file(shots[shot.original], shots, landmarks)
        return blemishes.near_copy(content, rng) if shot.kind == "near_duplicate" else (content, ending)

    def _picture(self, shot: Shot, landmarks: list[Landmark]) -> Image.Image:
        rng = self._generator(PICTURE, shot.number)
        if shot.shows is not None:
            return photograph(landmarks[shot.shows].mesh, rng, self.params.size)
        if rng.random() < LOOKALIKE_SHARE:
            family = list(FAMILIES)[rng.integers(len(FAMILIES))]
            once = Chooser(np.random.SeedSequence([self.seed, DESIGN, shot.number, 1]))
            return photograph(landmark_mesh(family, once), rng, self.params.size)
        return other_scene(rng, self.params.size)

    def _generator(self, purpose: int, number: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([self.seed, purpose, number]))


def design(count: int, seed: int) -> list[Landmark]:
    """`count` landmarks; a share of them are twins, whose choices are an earlier landmark's a little changed."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, DESIGN]))
    options = list(FAMILIES)
    families: list[str] = []
    models: list[int] = []
    for number in range(count):
        twin = number > 0 and rng.random() < TWIN_SHARE
        model = int(rng.integers(number)) if twin else number
        models.append(models[model] if twin else number)
        families.append(families[model] if twin else options[rng.integers(len(options))])
    names = invent(families, np.random.default_rng(np.random.SeedSequence([seed, NAMES])))
    meshes = []
    for number, (family, model) in enumerate(zip(families, models, strict=True)):
        tweak = None if model == number else np.random.SeedSequence([seed, DESIGN, number, 2])
        meshes.append(landmark_mesh(family, Chooser(np.random.SeedSequence([seed, DESIGN, model, 0]), tweak)))
    return [Landmark(*parts) for parts in zip(families, names, meshes, strict=True)]
