"""The work of the server without a server, for bench_serve.py: photos to landmarks in one process, and its parts.

The same code that the Triton models call, on batches as large as one likes, with nothing sent anywhere.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from cairn.answering.preprocess import fitted
from cairn.manifest import NONE
from cairn.photos import DecodeError, decode
from cairn.retrieval.answer import rule_of
from cairn.retrieval.context import CONTEXT_FOLDER, open_context
from cairn.retrieval.index import PhotoIndex
from cairn.retrieval.rerankers.chain import build_chain
from cairn.retrieval.result import searched
from cairn.serving.embedding import OUTPUT, OnnxEmbedder
from cairn.serving.preparing import Preparer, preprocessing_of
from cairn.serving.retrieving import Retriever
from cairn.serving.runtime import newest_version

ROUNDS = 5  # of the profile, of which the middle one counts


class Way(NamedTuple):
    """How the photos are worked through: so many at once, and whether the next ones are prepared meanwhile."""

    batch: int
    ahead: bool

    def __str__(self) -> str:
        return f"batches of {self.batch}{', the next one prepared meanwhile' if self.ahead else ''}"


class Speed(NamedTuple):
    """Photos a second, and milliseconds of processor that each took, of all threads."""

    photos_per_second: float
    processor_ms: float


class InProcess:
    """The exported repository, opened as the server's models open it."""

    def __init__(self, repository: Path) -> None:
        """Raises what the models raise where files are missing or wrong."""
        folders = {name: _version_folder(repository / name) for name in ("preprocess", "embed", "retrieve")}
        self._prepare = Preparer(folders["preprocess"])
        self._embed = OnnxEmbedder(folders["embed"])
        self._retrieve = Retriever(folders["retrieve"], int(folders["retrieve"].name))
        self._meanwhile = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._folders = folders

    def check(self, photos: Sequence[bytes]) -> None:
        """Raises DecodeError, naming its position, at the first photo that cannot be decoded."""
        for position, photo in enumerate(photos):
            (image,) = self._prepare([photo])
            if isinstance(image, DecodeError):
                raise DecodeError(f"photo {position}: {image}; leave it out")

    def images(self, photos: Sequence[bytes]) -> NDArray[np.uint8]:
        """Photos that can be decoded as network inputs, uint8 [photos, size, size, 3]."""
        return np.stack(cast(list[NDArray[np.uint8]], self._prepare(photos)))  # an array each: `check` has seen to it

    def answers(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """The outputs of `retrieve`."""
        return self._retrieve(self._embed(images)[OUTPUT])

    def landmarks(self, photos: Sequence[bytes], batch: int) -> list[int | None]:
        """The landmark id of each photo, none where it shows none."""
        parts = [photos[start : start + batch] for start in range(0, len(photos), batch)]
        ids = [self.answers(self.images(part))["landmark_id"].ravel().tolist() for part in parts]
        return [None if landmark == NONE else landmark for part in ids for landmark in part]

    def speed(self, photos: Sequence[bytes], way: Way, seconds: float) -> Speed:
        """Of answering photos for so many seconds, after a warm-up of a fifth of them, two at most."""
        batches = self.prepared(photos, way)
        warm = time.perf_counter() + min(2.0, seconds / 5)
        while time.perf_counter() < warm:
            self.answers(next(batches))
        start, before, count = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() < start + seconds:
            count += len(self.answers(next(batches))["landmark_id"])
        return Speed(count / (time.perf_counter() - start), 1e3 * (time.process_time() - before) / count)

    def prepared(self, photos: Sequence[bytes], way: Way) -> Iterator[NDArray[np.uint8]]:
        """Batches without end."""
        endless = itertools.cycle(photos)
        batches = iter(lambda: list(itertools.islice(endless, way.batch)), [])
        if not way.ahead:
            yield from map(self.images, batches)
        under_way: Future[NDArray[np.uint8]] = self._meanwhile.submit(self.images, next(batches))
        for batch in batches:
            done, under_way = under_way, self._meanwhile.submit(self.images, batch)
            yield done.result()

    def profile(self, photos: Sequence[bytes], batch: int) -> dict[str, float]:
        """Milliseconds a photo of each part: those before `network` in one thread, the others on whole batches."""
        how = preprocessing_of(self._folders["preprocess"])
        rule = rule_of(self._folders["retrieve"])
        index = PhotoIndex.open(self._folders["retrieve"])
        chain = build_chain(rule.steps, open_context(self._folders["retrieve"] / CONTEXT_FOLDER))
        batches = [photos[start : start + batch] for start in range(0, len(photos), batch)]
        decoded = [decode(photo, how.short_side, how.max_megapixels) for photo in photos]
        images = [self.images(part) for part in batches]
        embeddings = [self._embed(part)[OUTPUT] for part in images]
        found = [searched(part, index.search(part, rule.neighbours)) for part in embeddings]
        parts: dict[str, float] = {
            "decode": _ms(lambda photo: decode(photo, how.short_side, how.max_megapixels), photos),
            "resize": _ms(lambda image: fitted(image, how), decoded),
            "network": _ms(self._embed, images),
            "search": _ms(lambda part: index.search(part, rule.neighbours), embeddings),
            "chain": _ms(chain.process, found),
        }
        parts["names and neighbours"] = _ms(self._retrieve, embeddings) - parts["search"] - parts["chain"]
        per_item = {"decode", "resize"}
        parts = {name: ms / (1 if name in per_item else len(photos) / len(batches)) for name, ms in parts.items()}
        return {**parts, "prepare, all threads": _ms(self.images, batches) * len(batches) / len(photos)}


def _version_folder(model: Path) -> Path:
    return model / str(newest_version(model))


def _ms(work: Callable[[Any], object], items: Sequence[Any]) -> float:
    """Milliseconds an item: the middle one of several rounds over all."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for item in items:
            work(item)
        times.append((time.perf_counter() - start) / len(items))
    return 1e3 * float(np.median(times))


class _Opened(NamedTuple):
    photos: list[bytes]
    pipeline: InProcess


_opened: list[_Opened] = []  # of this process


def begin(photos: list[bytes], repository: Path) -> None:
    """What the process does first: open the repository, and look whether all photos can be decoded."""
    _opened.append(_Opened(photos, InProcess(repository)))
    _opened[0].pipeline.check(photos)


def run(way: Way, seconds: float) -> Speed:
    """As InProcess.speed."""
    return _opened[0].pipeline.speed(_opened[0].photos, way, seconds)


def run_each(batch: int) -> list[int | None]:
    """The landmark id of each photo."""
    return _opened[0].pipeline.landmarks(_opened[0].photos, batch)


def run_profile(batch: int) -> Mapping[str, float]:
    """As InProcess.profile."""
    return _opened[0].pipeline.profile(_opened[0].photos, batch)
