"""Known vulnerabilities of all packages that requirements/*.lock name, by pip-audit.

    .venv-supply/bin/python requirements/audit.py [--must]

Exits with 1 if there are any. Where no advisory service can be reached it says that the audit was skipped and why, and
exits with 0; with `--must` that is an error too. A package that the service does not know is named: it was not audited.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
AUDIT = (
    *(sys.executable, "-m", "pip_audit", "--vulnerability-service", "osv", "--disable-pip", "--require-hashes"),
    *("--progress-spinner", "off", "--timeout", "20", "--format", "json", "--requirement"),
)


class Audited(NamedTuple):
    """What came of a lock: how many packages were looked up, those that were not, and vulnerabilities in words.

    skipped: why nothing could be looked up; empty if something was
    """

    packages: int
    unknown: list[str]
    vulnerable: list[str]
    skipped: str


def judged(output: str, errors: str) -> Audited:
    """What pip-audit printed, by package: it ends well, too, if it looked up none."""
    try:
        packages = json.loads(output)["dependencies"]
    except (ValueError, KeyError):
        last = errors.strip().split("\n")[-1][:300] or "pip-audit said nothing"
        return Audited(0, [], [], f"no advisory service could be reached ({last})")
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    vulnerable = [
        f"{package['name']} {package['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'none'}"
        for package in packages
        for flaw in package.get("vulns", [])
    ]
    known = len(packages) - len(unknown)
    return Audited(known, unknown, vulnerable, "" if known else "the advisory service knows none of the packages")


def audit(lock: Path) -> Audited:
    """Ask about one lock."""
    done = subprocess.run([*AUDIT, str(lock)], capture_output=True, text=True, check=False)
    return judged(done.stdout, done.stderr)


def main() -> int:
    """Ask about each lock, and say what came."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--must", action="store_true", help="an audit that was skipped is an error")
    args = parser.parse_args()
    faults = 0
    for lock in sorted((ROOT / "requirements").glob("*.lock")):
        found = audit(lock)
        if found.skipped:
            print(f"audit skipped: {found.skipped}")
            return int(args.must or faults > 0)
        print(f"{lock.name}: {found.packages} packages, {len(found.vulnerable)} known vulnerabilities")
        print("".join(f"  {line}\n" for line in found.vulnerable), end="")
        if found.unknown:
            print(f"  not audited: {', '.join(found.unknown)}")
        faults += len(found.vulnerable)
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
