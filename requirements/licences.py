"""The licences of all packages that requirements/*.lock name, into docs/licences.md.

    python requirements/licences.py

A licence is what the installed package says of itself (.venv, .venv-server, .venv-supply): its SPDX expression, else
its text, where it is known, else its classifiers. What a package does not say stands in SAID, with where it does.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "licences.md"
BEGIN, END = "<!-- made by `make licences` -->\n", "<!-- end -->\n"

PERMISSIVE, WEAK, STRONG, CLOSED, UNKNOWN = "permissive", "weak copyleft", "strong copyleft", "proprietary", "unknown"
ORDER = (PERMISSIVE, WEAK, STRONG, CLOSED, UNKNOWN)  # from the freest: OR takes the first, AND the last

# By what an SPDX identifier begins with; the first that fits.
KINDS = {
    "LGPL": WEAK,
    "MPL": WEAK,
    "EPL": WEAK,
    "GPL-2.0-with-linking-exception": WEAK,
    "GPL": STRONG,
    "AGPL": STRONG,
    "LicenseRef-NVIDIA": CLOSED,
    **dict.fromkeys(
        ("Apache", "MIT", "BSD", "0BSD", "ISC", "PSF", "Python", "Zlib", "ZPL", "BSL", "CC0", "Unlicense", "HPND"),
        PERMISSIVE,
    ),
    "LicenseRef-Public-Domain": PERMISSIVE,
}
# What packages write in place of an SPDX identifier.
WORDS = {
    "BSD License": "BSD-3-Clause",
    "BSD": "BSD-3-Clause",
    "3-Clause BSD License": "BSD-3-Clause",
    "2-clause BSD License": "BSD-2-Clause",
    "MIT License": "MIT",
    "The MIT License (MIT)": "MIT",
    "Apache Software License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache 2": "Apache-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "GNU General Public License (GPL)": "GPL-1.0-or-later",
    "GPLv2 with linking exception": "GPL-2.0-with-linking-exception",
    "GPLv2 | EPLv1": "GPL-2.0-only OR EPL-1.0",
    "ISC License (ISCL)": "ISC",
    "ISC": "ISC",
    "Zope Public License": "ZPL-2.1",
    "The Unlicense (Unlicense)": "Unlicense",
    "Public Domain": "LicenseRef-Public-Domain",
    "Other/Proprietary License": "LicenseRef-NVIDIA-Proprietary",
    "NVIDIA Proprietary Software": "LicenseRef-NVIDIA-Proprietary",
    "Proprietary": "LicenseRef-NVIDIA-Proprietary",
}
# Of packages whose metadata say nothing, or less than their licence's text.
SAID = {
    "cuda-toolkit": "LicenseRef-NVIDIA-Proprietary",  # names NVIDIA's libraries, holds none
    "docutils": "LicenseRef-Public-Domain AND BSD-2-Clause AND PSF-2.0",  # COPYING: GPL is of a file for Emacs alone
    "grandalf": "GPL-2.0-only OR EPL-1.0",  # its classifier names one of the two
    "huey": "MIT",  # its file LICENSE
    "skops": "MIT",  # its file LICENSE
}


class Package(NamedTuple):
    """A package of a lock."""

    name: str
    version: str


def locked(lock: Path) -> list[Package]:
    """The packages of a lock, by the names that registries compare."""
    found = re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)", lock.read_text(), re.MULTILINE)
    return [Package(plain(name), version) for name, version in found]


def plain(name: str) -> str:
    """A name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licence_of(package: Distribution) -> str:
    """The SPDX expression of an installed package; its own words where they are not known, empty if it has none."""
    metadata = package.metadata
    if said := SAID.get(plain(metadata["Name"])):
        return said
    if expression := metadata.get("License-Expression"):
        return str(expression)
    text = str(metadata.get("License") or "").strip().split("\n")[0][:80]
    if spdx := WORDS.get(text, text if kind_of(text) != UNKNOWN else ""):
        return spdx
    classifiers = (str(line).split(" :: ") for line in metadata.get_all("Classifier") or [])
    named = [words[-1] for words in classifiers if words[0] == "License" and words[-1] != "OSI Approved"]
    return " OR ".join(WORDS.get(name, name) for name in named) or text


def kind_of(expression: str) -> str:
    """What a licence asks for, in one of ORDER: of an expression with OR its freest part, with AND its strictest."""
    expression = expression.strip()
    if expression.startswith("(") and _closes_at_the_end(expression):
        return kind_of(expression[1:-1])
    for word, choose in ((" OR ", min), (" AND ", max)):
        parts = _split(expression, word)
        if len(parts) > 1:
            return ORDER[choose(ORDER.index(kind_of(part)) for part in parts)]
    return next((kind for start, kind in KINDS.items() if expression.startswith(start)), UNKNOWN)


def _closes_at_the_end(text: str) -> bool:
    depth = 0
    for at, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return at == len(text) - 1
    return False


def _split(text: str, word: str) -> list[str]:
    """At `word`, but not within brackets."""
    parts, depth = [""], 0
    for piece in re.split(f"({word}|[()])", text):
        depth += (piece == "(") - (piece == ")")
        if piece == word and depth == 0:
            parts.append("")
        else:
            parts[-1] += piece
    return parts


def installed() -> dict[Package, str]:
    """The licences of what is installed in the environments of the project."""
    paths = [str(path) for path in sorted(ROOT.glob(".venv*/lib/python*/site-packages"))]
    found = (distribution for path in paths for distribution in distributions(path=[path]))
    return {Package(plain(each.metadata["Name"]), each.version): licence_of(each) for each in found}


def table(locks: Iterable[Path], licences: dict[Package, str]) -> str:
    """A row a package: versions, locks, licence and what it asks for; first a list of those that are not permissive."""
    where: dict[str, dict[str, list[str]]] = {}
    for lock in locks:
        for package in locked(lock):
            where.setdefault(package.name, {}).setdefault(package.version, []).append(lock.stem)
    # A version that is in no environment has the licence of one that is.
    by_name = {package.name: licence for package, licence in sorted(licences.items())}
    rows, flagged = [], []
    for name, versions in sorted(where.items()):
        said = {licences.get(Package(name, version)) or by_name.get(name) or "says nothing" for version in versions}
        licence = " / ".join(sorted(said))
        kind = max((kind_of(each) for each in said), key=ORDER.index)
        stems = sorted({stem for some in versions.values() for stem in some})
        row = f"| {name} | {', '.join(versions)} | {', '.join(stems)} | {licence} | {kind} |"
        rows.append(row)
        flagged += [row] if kind != PERMISSIVE else []
    head = ["| package | version | locks | licence | kind |", "|---|---|---|---|---|"]
    title = f"## Not permissive: {len(flagged)} of {len(rows)}\n"
    return "\n".join([title, *head, *flagged, "\n## All\n", *head, *rows]) + "\n"


def main() -> int:
    """Write the page."""
    before, rest = PAGE.read_text().split(BEGIN)
    made = table(sorted((ROOT / "requirements").glob("*.lock")), installed())
    PAGE.write_text(f"{before}{BEGIN}\n{made}\n{END}{rest.split(END)[1]}")
    print(made.partition("## All")[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
