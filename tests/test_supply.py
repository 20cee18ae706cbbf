"""The licence list holds what the locks hold; licences are judged right; an audit that looked up nothing says so."""

from __future__ import annotations

import json
import re
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "requirements"))

from audit import judged
from licences import CLOSED, PAGE, PERMISSIVE, STRONG, UNKNOWN, WEAK, Package, kind_of, licence_of, locked, table

ROOT = Path(__file__).parents[1]
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_each_locked_package_is_in_the_list_with_its_version_and_lock(lock: Path) -> None:
    rows = re.findall(r"^\| (\S+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", PAGE.read_text(), re.MULTILINE)
    listed = {
        (name, version) for name, versions, locks, *_ in rows for version in versions.split(", ") if lock.stem in locks
    }
    packages = locked(lock)
    assert len(packages) >= 15
    assert set(packages) <= listed, "run `make licences`"


def test_none_says_nothing_and_no_kind_is_unknown() -> None:
    assert "says nothing" not in PAGE.read_text()
    assert f"| {UNKNOWN} |" not in PAGE.read_text()


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        ("MIT", PERMISSIVE),
        ("Apache-2.0 OR GPL-2.0-or-later", PERMISSIVE),
        ("MPL-2.0 AND MIT", WEAK),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", WEAK),
        ("(MIT OR GPL-3.0-only) AND BSD-3-Clause", PERMISSIVE),
        ("(MIT AND GPL-3.0-only) OR (LGPL-2.1-only)", WEAK),
        ("GPL-3.0-only", STRONG),
        ("LGPL-3.0-only", WEAK),
        ("LicenseRef-NVIDIA-Proprietary", CLOSED),
        ("as is", UNKNOWN),
    ],
)
def test_kinds(expression: str, kind: str) -> None:
    assert kind_of(expression) == kind


def test_licences_of_installed_packages() -> None:
    assert {name: licence_of(distribution(name)) for name in ("pydantic", "hypothesis", "requests")} == {
        "pydantic": "MIT",
        "hypothesis": "MPL-2.0",
        "requests": "Apache-2.0",
    }


def test_a_package_of_two_versions_and_one_that_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.lock").write_text("one==1 \\\n    --hash=sha256:0\nTwo_b==2 ; sys_platform == 'linux'\n")
    (tmp_path / "b.lock").write_text("one==3\n")
    lines = table([tmp_path / "a.lock", tmp_path / "b.lock"], {Package("one", "1"): "MIT"}).splitlines()
    assert lines[0] == "## Not permissive: 1 of 2"
    assert "| one | 1, 3 | a, b | MIT | permissive |" in lines
    assert lines.count("| two-b | 2 | a | says nothing | unknown |") == 2


def test_audits() -> None:
    flaw = {"id": "CVE-1", "fix_versions": ["2"]}
    packages = [{"name": "a", "version": "1", "vulns": [flaw]}, {"name": "b", "skip_reason": "not found"}]
    found = judged(json.dumps({"dependencies": packages}), "")
    assert found == (1, ["b"], ["a 1: CVE-1, mended in 2"], "")
    assert judged(json.dumps({"dependencies": packages[1:]}), "No known vulnerabilities found").skipped
    assert "name not known" in judged("", "Traceback\nConnectionError: name not known").skipped
