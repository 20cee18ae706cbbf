"""A `dvc repro` that is going on: in a process group of its own, as any user, killed where that is asked for."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from whole.project import environment

PATIENCE_S = 7200.0
POLL_S = 0.02
NOBODY = 65534  # a user that is not root


@dataclass
class Run:
    """A folder to run in, and how. What a run says goes to `log`, which each one begins anew."""

    folder: Path
    user: int | None = None
    variables: Mapping[str, str] = field(default_factory=dict)  # of the environment, beside or over those there are
    one_core: bool = False

    @property
    def log(self) -> Path:
        """What the last run said."""
        return self.folder / "repro.log"

    def command(self, *arguments: str) -> list[str]:
        """With the user changed, if one is given, and held to one core."""
        command = [sys.executable, "-m", "dvc", "repro", *arguments]
        if self.one_core:
            command = ["taskset", "--cpu-list", str(min(os.sched_getaffinity(0))), *command]
        return command if self.user is None else [*as_user(self.user), *command]

    def environment(self) -> dict[str, str]:
        """DVC's notes, anybody's home and settings of this machine's DVC lie in the folder: nothing is shared."""
        home = self.folder / ".home"
        home.mkdir(exist_ok=True)
        given_to(home, self.user)
        own = {f"DVC_{name}_DIR": str(home / name.lower()) for name in ("SITE_CACHE", "GLOBAL_CONFIG", "SYSTEM_CONFIG")}
        return {**environment(self.folder), **own, "HOME": str(home), "PYTHONUNBUFFERED": "1", **self.variables}

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """In a process group of its own."""
        given = self.environment()
        with self.log.open("wb") as log:
            return subprocess.Popen(
                self.command(*arguments), cwd=self.folder, env=given, stdout=log, stderr=log, start_new_session=True
            )

    def to_its_end(self, *arguments: str) -> int:
        """The exit status."""
        return self.start(*arguments).wait(PATIENCE_S)

    def killed(self, stage: str, after_s: float, *arguments: str) -> bool:
        """Kill all of it so many seconds of a processor after the stage began; false if either ended before."""
        process, begun = self.start(*arguments), None
        while process.poll() is None:
            if begun is None and stage in self.ran():
                begun = used_s(process.pid)
            if begun is not None and used_s(process.pid) - begun >= after_s:
                os.killpg(process.pid, signal.SIGKILL)
                return process.wait() == -signal.SIGKILL and self.ran()[-1] == stage
            time.sleep(POLL_S)
        return False

    def measured(self, stages: Sequence[str], *arguments: str) -> tuple[int, dict[str, float]]:
        """The exit status, and the seconds of a processor from each stage's start to the next one's, or the end."""
        process, used, begun = self.start(*arguments), 0.0, dict.fromkeys(stages, float("inf"))
        while process.poll() is None:
            used = max(used, used_s(process.pid))
            for stage in set(self.ran()) & set(stages):
                begun[stage] = min(begun[stage], used)
            time.sleep(POLL_S)
        ends = [*(begun[stage] for stage in stages[1:]), used]
        return process.returncode, {stage: end - begun[stage] for stage, end in zip(stages, ends, strict=True)}

    def ran(self) -> list[str]:
        """The stages that it has begun, in order."""
        return re.findall(r"Running stage '(.+?)'", self.said())

    def said(self) -> str:
        """All that it has said so far."""
        return self.log.read_text(errors="replace")


# What is in a folder that only root may enter is seen there by the command alone, without the rest of the folder.
WITHIN = """set -e
kept=$(mktemp -d)
mount --bind "$2" "$kept"
mount -t tmpfs -o mode=755 tmpfs "$1"
mkdir -p "$2"
mount --move "$kept" "$2"
rmdir "$kept"
shift 2
exec "$@"
"""


def as_user(user: int) -> list[str]:
    """What a command has in front of it, so that it is run by another user; wants root."""
    change = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    python = Path(sys.base_prefix)
    barred = barring(python)
    if barred is None:
        return change
    return ["unshare", "--mount", "sh", "-c", WITHIN, "sh", str(barred), str(python), *change]


def barring(path: Path) -> Path | None:
    """The folder above `path` that other users cannot enter, if there is one."""
    return next((folder for folder in path.resolve().parents if not folder.stat().st_mode & 0o001), None)


def no_other_user() -> str | None:
    """Why nothing can be run as another user here; none if it can."""
    if os.geteuid() != 0:
        return "another user wants root"
    missing = [tool for tool in ("setpriv", "unshare", "mount") if shutil.which(tool) is None]
    if missing:
        return f"another user wants {', '.join(missing)}"
    if (barred := barring(Path(sys.prefix))) is not None:
        return f"another user may not enter {barred}, where the environment lies"
    done = subprocess.run([*as_user(NOBODY), sys.executable, "-c", ""], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"nothing runs as another user here: {done.stderr.strip()}"


def used_s(pid: int) -> float:
    """Seconds of a processor that a process and all that it started have used, those that ended included."""
    used = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                used += sum(process.cpu_times()[:4])
    return used


def given_to(folder: Path, user: int | None) -> None:
    """Make all of a folder another user's, if one is given."""
    if user is not None:
        for path in [folder, *folder.rglob("*")]:
            os.lchown(path, user, user)
