"""How many threads each model of the server computes with."""

from __future__ import annotations

import os

VARIABLE = "CAIRN_THREADS"


def threads() -> int:
    """The value of CAIRN_THREADS; every core this process may use where it is not set.

    The models of one request run one after another, so all of them may have all cores. Raises ValueError if the
    variable is not a whole number of at least 1.
    """
    value = os.environ.get(VARIABLE, "")
    if not value:
        return len(os.sched_getaffinity(0))
    if not value.isdecimal() or int(value) < 1:
        raise ValueError(f"{VARIABLE} = {value!r}: a whole number of at least 1 is needed")
    return int(value)
