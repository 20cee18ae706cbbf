"""When two landmarks' names are one: the same in the folders that photos come from and in what is added later."""

from __future__ import annotations

import unicodedata


def as_compared(name: str) -> str:
    """A landmark's name as names are compared: composed characters, single blanks, none around it."""
    return " ".join(unicodedata.normalize("NFC", name).split())
