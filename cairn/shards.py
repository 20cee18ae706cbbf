"""Tar shards of photos: written with the same bytes every time, indexed in place, read by offset without unpacking."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import NamedTuple

BLOCK = tarfile.BLOCKSIZE
MOST_OPEN = 256  # shards of a reader; a process may often have 1,024 files open in all


class ShardError(ValueError):
    """A tar shard that is broken or does not hold what the manifest says."""


class Member(NamedTuple):
    """Where one file lies in a shard: `offset` and `size` in bytes, of the content without its header."""

    name: str
    shard: str
    offset: int
    size: int


def write_shards(files: Iterable[tuple[str, bytes]], folder: Path, shard_bytes: int) -> Iterator[Member]:
    """Write (name, content) pairs into `folder/shard_00000.tar`, ... and yield where each one went.

    A shard is closed when it holds at least `shard_bytes`. Headers carry no time, owner or mode of this machine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    number, shard = 0, None
    try:
        for name, content in files:
            if shard is None:
                path = folder / f"shard_{number:05d}.tar"
                shard = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115 - closed when full, or in finally
            header = tarfile.TarInfo(name)
            header.size = len(content)
            shard.addfile(header, io.BytesIO(content))
            yield Member(name, path.name, shard.offset - _padded(len(content)), len(content))
            if shard.offset >= shard_bytes:
                shard.close()
                number, shard = number + 1, None
    finally:
        if shard is not None:
            shard.close()


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def index_shard(path: Path, root: Path) -> list[Member]:
    """Every regular file of a tar, without unpacking it; links, folders and devices are passed over.

    Raises ShardError, naming file and offset, where the tar is cut off or is no tar.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            members = [
                Member(item.name, str(path.relative_to(root)), item.offset_data, item.size)
                for item in tar
                if item.isreg()
            ]
    except tarfile.TarError as error:
        raise ShardError(f"{path}: not a whole tar file ({error}); fetch it again") from error
    length = path.stat().st_size
    for member in members:
        if member.offset + member.size > length:
            raise ShardError(f"{path}: {member.name} ends at byte {member.offset + member.size}, the file at {length}")
    return members


class _OpenFile:
    """A file open for reading until nobody holds this, so that a thread may read what another has put away."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):  # it could be opened
            os.close(self.descriptor)


class ShardReader:
    """Reads photos by (shard, offset, size) from the shards below `root`; keeps some files open, safe among threads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._files: dict[str, _OpenFile] = {}  # in the order they were opened
        self._opening = Lock()

    def read(self, shard: str, offset: int, size: int) -> bytes:
        """The photo's bytes. Raises ShardError if the shard is missing or ends before offset + size."""
        file = self._files.get(shard) or self._opened(shard)
        content = os.pread(file.descriptor, size, offset)
        if len(content) != size:
            raise ShardError(f"{self.root / shard}: {size} bytes wanted at {offset}, {len(content)} are there")
        return content

    def _opened(self, shard: str) -> _OpenFile:
        with self._opening:
            if shard not in self._files:
                self._files[shard] = self._open(shard)
            if len(self._files) > MOST_OPEN:
                del self._files[next(iter(self._files))]
            return self._files[shard]

    def _open(self, shard: str) -> _OpenFile:
        path = self.root / shard
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise ShardError(f"shard {shard!r} lies outside {self.root}")
        try:
            return _OpenFile(path)
        except OSError as error:
            raise ShardError(
                f"{path}: {error.strerror}; run `dvc repro fetch`, or `dvc checkout` if it is cached"
            ) from error

    def close(self) -> None:
        """Close every open shard."""
        self._files.clear()

    def __enter__(self) -> ShardReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
