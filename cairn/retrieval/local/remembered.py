"""Features of photos that are looked at again and again, remembered within a limit of memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Protocol, TypeVar


class Sized(Protocol):
    """What says how much memory it holds, as Features do."""

    @property
    def nbytes(self) -> int:
        """In bytes."""


Key = TypeVar("Key", bound=Hashable)
Thing = TypeVar("Thing", bound=Sized)


def remembered(make: Callable[[Key], Thing], most_bytes: int) -> Callable[[Key], Thing]:
    """What `make` makes of a key, kept until what was asked for since takes `most_bytes`; the latest is always kept."""
    kept: OrderedDict[Key, Thing] = OrderedDict()
    held = 0

    def look_up(key: Key) -> Thing:
        nonlocal held
        if key not in kept:
            kept[key] = make(key)
            held += kept[key].nbytes
        kept.move_to_end(key)
        while held > most_bytes and len(kept) > 1:
            held -= kept.popitem(last=False)[1].nbytes
        return kept[key]

    return look_up
