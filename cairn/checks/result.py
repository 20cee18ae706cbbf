"""What a check found, as plain data, and as a table for people."""

from __future__ import annotations

from dataclasses import dataclass

EXAMPLES = 3  # of a breach, at most


@dataclass(frozen=True)
class Expectation:
    """One thing that was checked.

    name: what must hold, in words
    column: of the checked table; "(table)" where it is about no single column
    breaches, of: how many rows, columns or landmarks break it, of how many looked at; an expectation with a tolerance
        passes with some
    examples: up to EXAMPLES of the breaches, as image id, its file's name and value
    """

    name: str
    column: str
    passed: bool
    breaches: int
    of: int
    examples: list[str]


@dataclass(frozen=True)
class CheckResult:
    """All expectations in a fixed order, and counts worth reporting; the same for the same data, params and seed."""

    passed: bool
    expectations: list[Expectation]
    facts: dict[str, int | float]


def breach_table(result: CheckResult) -> str:
    """What failed, one line each: what must hold, where, how many of how many break it, and examples."""
    failed = [item for item in result.expectations if not item.passed]
    if not failed:
        return "no breach"
    rows = [("what must hold", "where", "breaches", "examples")]
    rows += [(e.name, e.column, f"{e.breaches} of {e.of}", "; ".join(e.examples)) for e in failed]
    widths = [max(len(row[at]) for row in rows) for at in range(3)]
    lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]]) for row in rows]
    return "\n".join(line.rstrip() for line in lines)
