"""Tar shards of photos: written with the same bytes every time, indexed in place, read by offset without unpacking."""

from __future__ import annotations

import io
import os
import re
import stat
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from threading import Lock
from types import TracebackType
from typing import NamedTuple

BLOCK = tarfile.BLOCKSIZE
MOST_OPEN = 256  # shards of a reader; a process may often have 1,024 files open in all
MAX_SIZE = 1 << 60  # bytes of a file: more than any disk has
MAX_EXTENDED = 100_000  # bytes of a header that holds a long name or attributes
MAX_GLOBAL = 1000  # bytes of attributes for all files, of all headers: tarfile copies them into each file's
RECORD = re.compile(rb"(\d+) ([^=]+)=")  # an attribute's beginning as tarfile reads it; first its length
ATTRIBUTES = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
EXTENDED = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, *ATTRIBUTES)


class ShardError(ValueError):
    """A tar shard that is broken or does not hold what the manifest says."""


class Member(NamedTuple):
    """Where one file lies in a shard: `offset` and `size` in bytes, of the content without its header."""

    name: str
    shard: str
    offset: int
    size: int


def stays_below(shard: str) -> bool:
    """Whether a manifest's name of a shard means a file below its folder.

    The name alone tells: the file may be a link that DVC put there, where its cache lies on another disk.
    """
    path = PurePosixPath(shard)
    return not path.is_absolute() and ".." not in path.parts and "\0" not in shard


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


class _Header(tarfile.TarInfo):
    """A header that is looked at before tarfile follows it: Python 3.11 does not end, or takes what is claimed."""

    def _proc_member(self, tar: _Tar) -> tarfile.TarInfo:  # what tarfile documents as its entry point
        _check_size(self)
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError(_sparse(self.offset))
        if self.type in EXTENDED:
            self._look_ahead(tar)
        return super()._proc_member(tar)  # type: ignore[misc, no-any-return]

    def _look_ahead(self, tar: _Tar) -> None:
        if self.size > MAX_EXTENDED:
            raise tarfile.ReadError(f"the header at byte {self.offset} has a name or attributes of {self.size} bytes")
        file = tar.fileobj
        if file is None:
            raise tarfile.ReadError("closed")
        here = file.tell()
        content = file.read(_padded(self.size))  # tarfile looks for attributes in the padding too
        file.seek(here)
        if self.type == tarfile.XGLTYPE:
            tar.global_bytes += max(self.size, len(content.rstrip(b"\0")))
        if tar.global_bytes > MAX_GLOBAL:
            raise tarfile.ReadError(
                f"at byte {self.offset} its attributes for all files come to {tar.global_bytes} bytes, over the limit "
                f"of {MAX_GLOBAL}; pack it again without them"
            )
        if b"GNU.sparse." in content:
            raise tarfile.ReadError(_sparse(self.offset))
        # tarfile takes a time of the square of such a number's length, and memory of the square of such names'.
        if re.search(rb"[0-9]{100}", content) or (self.type in ATTRIBUTES and _names_overlap(content)):
            raise tarfile.ReadError(f"the header at byte {self.offset} has attributes that are none")


class _Tar(tarfile.TarFile):
    """A tar whose headers are looked at."""

    tarinfo = _Header
    members: list[tarfile.TarInfo]  # all that were read
    global_bytes = 0  # of attributes for all files, so far


def _names_overlap(content: bytes) -> bool:
    """Whether an attribute's name reaches beyond its length, into the next one."""
    at = 0
    while record := RECORD.match(content, at):
        at += int(record[1])
        if record.end() > at:
            return True
    return False


def _check_size(item: tarfile.TarInfo) -> None:
    """Below 0 tarfile would go back, for ever."""
    if not 0 <= item.size < MAX_SIZE:
        raise tarfile.ReadError(f"the header at byte {item.offset} claims {item.size} bytes")


def _sparse(offset: int) -> str:
    return f"the file at byte {offset} is stored with holes; pack it again without --sparse"


def index_shard(path: Path, root: Path) -> list[Member]:
    """Every regular file of a tar, without unpacking it; links, folders and devices are passed over.

    Raises ShardError, naming file and offset, where the tar is cut off, broken within, or is no tar.
    """
    shard = str(path.relative_to(root))
    members = []
    try:
        with _Tar.open(path, "r:") as tar:
            while item := tar.next():
                tar.members.clear()
                _check_size(item)  # attributes may have changed it
                if item.isreg():
                    members.append(Member(item.name, shard, item.offset_data, item.size))
            end = tar.offset
    except Exception as error:  # tarfile lets ValueError, OverflowError, IndexError and more through
        raise ShardError(f"{path}: not a whole tar file ({error}); fetch it again") from error
    _check_end(path, end)
    length = path.stat().st_size
    for member in members:
        if member.offset + member.size > length:
            raise ShardError(f"{path}: {member.name} ends at byte {member.offset + member.size}, the file at {length}")
    return members


def _check_end(path: Path, end: int) -> None:
    """tarfile takes a broken header, and the end of the file, for the end of the archive."""
    with path.open("rb") as file:
        file.seek(end)
        block = file.read(BLOCK)
    if block != bytes(BLOCK):
        state = f"the header at byte {end} is broken" if len(block) == BLOCK else f"it is cut off at byte {end}"
        raise ShardError(f"{path}: not a whole tar file ({state}); fetch it again")


class _OpenFile:
    """A file open for reading until nobody holds this, so that a thread may read what another has put away."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self.descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would wait for a writer
        status = os.fstat(self.descriptor)
        self.length, self.is_file = status.st_size, stat.S_ISREG(status.st_mode)

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
        """The photo's bytes. Raises ShardError if the shard is missing, no file, or ends before offset + size."""
        file = self._files.get(shard) or self._opened(shard)
        # What does not lie in the file is not asked for: the reader would first make room for it.
        inside = offset >= 0 and 0 <= size <= file.length - offset
        content = os.pread(file.descriptor, size, offset) if inside else b""
        if not inside or len(content) != size:
            raise ShardError(
                f"{self.root / shard}: {size} bytes wanted at {offset}, of a file of {file.length}; "
                "run `dvc repro fetch`"
            )
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
        if not stays_below(shard):
            raise ShardError(f"shard {shard!r} lies outside {self.root}; run `dvc repro fetch`")
        try:
            file = _OpenFile(path)
        except OSError as error:
            raise ShardError(
                f"{path}: {error.strerror}; run `dvc repro fetch`, or `dvc checkout` if it is cached"
            ) from error
        if not file.is_file:
            raise ShardError(f"{path}: not a file; run `dvc repro fetch`")
        return file

    def close(self) -> None:
        """Close every open shard."""
        self._files.clear()

    def __enter__(self) -> ShardReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
