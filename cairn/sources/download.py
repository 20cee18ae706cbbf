"""Files fetched over HTTP, several at once: retried, resumed where they stopped, checked by md5. Knows no dataset."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from threading import Event, Lock
from typing import NamedTuple, TypeVar

import requests
from tqdm import tqdm

from cairn.files import discard, md5_of, store
from cairn.progress import progress
from cairn.sources.base import SourceError

T = TypeVar("T")

CHUNK = 64 * 1024  # bytes; a cut connection loses at most one
LONGEST_WAIT_S = 60.0
MAX_SHOWN = 40  # characters of what a server says
MAX_MD5 = 1000  # bytes that are read of the text with a file's md5
PLACES = {  # by status, the header that says where in the file a body begins and how long the file is
    200: ("Content-Length", r"()([0-9]{1,18})"),
    206: ("Content-Range", r"bytes ([0-9]{1,18})-[0-9]+/([0-9]{1,18}|\*)"),
    416: ("Content-Range", r"()bytes \*/([0-9]{1,18})"),
}
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})  # statuses that a later try may not meet
ABSENT = frozenset({403, 404, 410})  # S3 answers 403 for a file that is not there when listing is not allowed
AGAIN = "run `dvc repro fetch` again: it goes on where it stopped"


class Wanted(NamedTuple):
    """A file to fetch from `url` to `target`."""

    url: str
    target: Path
    md5_url: str | None = None  # a text whose first word is the file's md5
    optional: bool = False  # may be absent on the server


class Effort(NamedTuple):
    """How hard to try. Failures in a row are counted; one that brought new bytes starts the count anew."""

    workers: int  # files at once
    retries: int
    timeout_s: float  # without a byte
    backoff_s: float  # wait before the first retry; doubled before each further one


class _Passing(Exception):
    """A failure that a later try may not meet."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s  # what the server asks for


class _Absent(Exception):
    """The server has no such file."""


class _Stopped(Exception):
    """Another file failed for good: this one is left as it is."""


def download_all(files: Sequence[Wanted], effort: Effort, what: str, hint: str) -> set[Path]:
    """Fetch what is not there yet, behind a progress bar over bytes; give the targets that are there now.

    A file grows as `<target>.part`, which a later call goes on with, and gets its name when it is whole and its md5 is
    right. A file whose md5 is wrong is fetched from its start once more.

    Raises SourceError, naming the address and ending with `hint`, if a file that is not optional is absent, if the
    server fails more often than `effort` allows, or if an md5 is wrong twice. The other downloads then stop and keep
    their parts.
    """
    missing = [wanted for wanted in files if not wanted.target.exists()]
    if missing:
        nothing: tuple[object, ...] = ()
        with progress(nothing, what, unit="B") as bar, ThreadPoolExecutor(effort.workers, "download") as pool:
            work = _Work(effort, bar, len(missing), hint)
            try:
                futures = [pool.submit(_obtain, wanted, work) for wanted in missing]
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in futures:
                    if future in done:
                        future.result()
            finally:
                work.stop.set()
                pool.shutdown(cancel_futures=True)
    return {wanted.target for wanted in files if wanted.target.exists()}


class _Work:
    """What the threads of one call share: the effort, the bar, and the sign to stop."""

    def __init__(self, effort: Effort, bar: tqdm[object], files: int, hint: str) -> None:
        self.effort, self.hint, self.stop = effort, hint, Event()
        self._bar, self._lock, self._files = bar, Lock(), files
        self._sizes: dict[str, int] = {}

    def expect(self, url: str, size: int) -> None:
        """A file's size became known: the total is taken from the mean of those known so far."""
        with self._lock:
            self._sizes[url] = size
            self._bar.total = sum(self._sizes.values()) * self._files // len(self._sizes)

    def move(self, count: int) -> None:
        with self._lock:
            self._bar.update(count)

    def pause(self, failures: int, asked_s: float) -> None:
        """Exponential back-off; the jitter keeps threads from coming back all at once. Raises _Stopped."""
        longest = min(self.effort.backoff_s * 2.0 ** (failures - 1), LONGEST_WAIT_S)
        if self.stop.wait(max(longest * random.uniform(0.5, 1.0), min(asked_s, LONGEST_WAIT_S))):
            raise _Stopped


def _obtain(wanted: Wanted, work: _Work) -> None:
    """Bring one file to its target, unless it is optional and absent. Raises SourceError or _Stopped."""
    part = wanted.target.with_name(wanted.target.name + ".part")
    try:
        wanted.target.parent.mkdir(parents=True, exist_ok=True)
        with requests.Session() as session:
            session.headers["Accept-Encoding"] = "identity"  # ranges and sizes are of the file itself
            session.hooks["response"].append(_close_redirect)
            _fetch_whole(session, wanted, part, work)
    except _Absent as error:
        if not wanted.optional:
            raise SourceError(f"{error}; {work.hint}") from error
    except (requests.RequestException, ValueError) as error:  # urllib3 has a ValueError for a host that cannot be
        raise SourceError(f"{wanted.url}: cannot be fetched ({error}); {work.hint}") from error
    except OSError as error:
        raise SourceError(f"{part}: cannot be written ({error.strerror}); make room or rights, then {AGAIN}") from error


def _fetch_whole(session: requests.Session, wanted: Wanted, part: Path, work: _Work) -> None:
    right = None if wanted.md5_url is None else _fetch_md5(session, wanted.md5_url, work)
    for _ in range(2):
        work.move(_size(part))
        _patiently(lambda: _attempt(session, wanted, part, work), lambda: _size(part), wanted.url, work)
        found = None if right is None else md5_of(part)
        if found == right:
            discard(_tag_file(part))
            store(part)
            part.replace(wanted.target)
            return
        _restart(part, work)
    raise SourceError(
        f"{wanted.url}: wrong md5, also when fetched again: {found} found, {right} wanted by {wanted.md5_url}; the "
        f"server's copy is broken; {work.hint}"
    )


def _fetch_md5(session: requests.Session, url: str, work: _Work) -> str:
    def attempt() -> bytes:
        with _answer(session, url, {}, work) as response:
            return bytes(islice(chain.from_iterable(response.iter_content(MAX_MD5)), MAX_MD5))

    text = _patiently(attempt, lambda: 0, url, work).decode("ascii", "replace")
    found = re.match(r"\s*\\?([0-9a-fA-F]{32})\b", text)  # md5sum puts a backslash before escaped names
    if found is None:
        raise SourceError(f"{url}: no md5 at its start but {text[:MAX_SHOWN]!r}; {work.hint}")
    return found[1].lower()


def _patiently(attempt: Callable[[], T], size: Callable[[], int], url: str, work: _Work) -> T:
    """What `attempt` gives, called again as often as the effort allows; `size` tells whether it got any further."""
    failures, best = 0, size()
    while True:
        try:
            return attempt()
        except _Passing as error:
            failures = 1 if size() > best else failures + 1
            best = max(best, size())
            if failures > work.effort.retries:
                raise SourceError(f"{url}: given up after {work.effort.retries} retries ({error}); {AGAIN}") from error
            work.pause(failures, error.wait_s)


def _attempt(session: requests.Session, wanted: Wanted, part: Path, work: _Work) -> None:
    """One request for what is missing of `part`, appended as it comes."""
    start = _size(part)
    with _answer(session, wanted.url, _range(part, start, wanted.md5_url is not None), work) as response:
        first, total = _place(response, wanted.url, work)
        if response.status_code == 416:
            if total == start:
                return
            _restart(part, work)
            raise _Passing(f"the server has no bytes from {start}")
        if first and not _goes_on(part, response):
            _restart(part, work)
            raise _Passing("the server has another file by now")
        if first != start:
            _restart(part, work)
            if first:
                raise _Passing(f"bytes from {start} wanted, from {first} given")
        _remember_tag(part, response)
        if total is not None:
            work.expect(wanted.url, total)
        _append(part, response, work)
    if total is not None and _size(part) != total:
        raise _Passing(f"{_size(part)} of {total} bytes came")


def _range(part: Path, start: int, checked: bool) -> dict[str, str]:
    """Headers that ask for a file from byte `start` on, or for all of it if it is no longer the one begun with.

    For all of it too if neither a tag nor, later, an md5 (`checked`) would tell.
    """
    tag = _tag_file(part)
    if not start or not (checked or tag.exists()):
        return {}
    return {"Range": f"bytes={start}-"} | ({"If-Range": tag.read_text()} if tag.exists() else {})


def _goes_on(part: Path, response: requests.Response) -> bool:
    """Whether the answer is of the file begun with, as far as tags tell: some servers do not heed If-Range."""
    tag = _tag_file(part)
    return not tag.exists() or response.headers.get("ETag", tag.read_text()) == tag.read_text()


def _append(part: Path, response: requests.Response, work: _Work) -> None:
    with part.open("ab") as file:
        for chunk in response.iter_content(CHUNK):
            file.write(chunk)
            work.move(len(chunk))
            if work.stop.is_set():
                raise _Stopped


@contextmanager
def _answer(session: requests.Session, url: str, headers: dict[str, str], work: _Work) -> Iterator[requests.Response]:
    """A streamed answer of status 200, 206 or 416. Raises _Passing, also while it is read, _Absent or SourceError."""
    try:
        with session.get(url, headers=headers, stream=True, timeout=work.effort.timeout_s) as response:
            status = response.status_code
            if status in PASSING:
                asked = response.headers.get("Retry-After", "")
                raise _Passing(f"status {status}", float(asked) if asked.isdecimal() else 0.0)
            if status in ABSENT:
                raise _Absent(f"{url}: no such file on the server (status {status})")
            if status not in PLACES:
                raise SourceError(f"{url}: the server answers {status} {response.reason}; {work.hint}")
            packed = response.headers.get("Content-Encoding", "identity")
            if packed.lower() != "identity":
                said = f"the server packs it ({packed[:MAX_SHOWN]!r}), which it was asked not to"
                raise SourceError(f"{url}: {said}; have it sent as it is, or {work.hint}")
            yield response
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        raise _Passing(str(error)) from error


def _close_redirect(response: requests.Response, **_: object) -> None:
    """requests would read all of a redirect's body, of any length."""
    if response.is_redirect:
        response.close()


def _place(response: requests.Response, url: str, work: _Work) -> tuple[int, int | None]:
    """Where in the file the answer's body begins, and the bytes of the whole file, none if that is not said.

    Raises SourceError.
    """
    name, form = PLACES[response.status_code]
    text = response.headers.get(name)
    if text is None and response.status_code != 206:
        return 0, None
    found = re.fullmatch(form, text or "")
    if found is None:
        raise SourceError(f"{url}: the server says {name}: {(text or '')[:MAX_SHOWN]!r}, which is none; {work.hint}")
    return int(found[1] or 0), int(found[2]) if found[2] != "*" else None


def _restart(part: Path, work: _Work) -> None:
    work.move(-_size(part))
    discard(part)
    discard(_tag_file(part))


def _tag_file(part: Path) -> Path:
    """Beside a part: the server's ETag of the file that the part was begun with."""
    return part.with_name(part.name + ".etag")


def _remember_tag(part: Path, response: requests.Response) -> None:
    tag = response.headers.get("ETag", "")
    if response.status_code == 200:
        discard(_tag_file(part))
        if tag.startswith('"'):  # a weak tag (W/) cannot vouch for bytes
            _tag_file(part).write_text(tag)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
