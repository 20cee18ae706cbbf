"""What a hostile case is, what came of it, and how one is tried without hanging."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from cairn.cleaning.scenes import SceneError
from cairn.manifest import ManifestError
from cairn.params import ParamsError
from cairn.shards import ShardError
from cairn.sources.base import SourceError

CLEAR = (SourceError, ShardError, ManifestError, ParamsError, SceneError)  # this project's own
BUSY_S = 60  # of the processor: a case that takes more hangs; the slowest takes 3
IDLE_S = 900  # on the clock, on which the whole machine may stand still


class Result(NamedTuple):
    """What came of a case: `outcome` in a few words for the table, `said` in full (of what stopped, the error)."""

    part: str
    kind: str
    name: str
    outcome: str
    said: str = ""


class Hang(BaseException):
    """No `except Exception` of a library should take it for its own."""


@contextmanager
def soon() -> Iterator[None]:
    """Raises Hang in the main thread when the block takes too long."""

    def ring(*_: object) -> None:
        raise Hang

    before = [(kind, signal.signal(kind, ring)) for kind in (signal.SIGPROF, signal.SIGALRM)]
    signal.setitimer(signal.ITIMER_PROF, BUSY_S)
    signal.alarm(IDLE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        for kind, handler in before:
            signal.signal(kind, handler)


def tried(part: str, kind: str, name: str, work: Callable[[], str]) -> Result:
    """What `work` came to: the outcome it gives, the clear error it stops with, or what must never be."""
    try:
        with soon():
            return Result(part, kind, name, work())
    except CLEAR as error:
        return Result(part, kind, name, f"stopped: {type(error).__name__}", str(error))
    except Hang:
        return Result(part, kind, name, "HANGS")
    except Exception as error:  # noqa: BLE001 - which is what is looked for
        return Result(part, kind, name, "ANOTHER ERROR", f"{type(error).__name__}: {error}")
