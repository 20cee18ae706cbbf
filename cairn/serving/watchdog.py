"""Models that lost a Python process: Triton 2.51 neither starts another one nor says that the model is not ready.

So whoever started the server looks after its models, and unloads and loads one that lacks a process.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, NamedTuple

from cairn.serving.command import EVERYWHERE, LOOPBACK, Serving
from cairn.serving.control import NAME

STUB = "triton_python_backend_stub"
EVERY_S = 1.0
AGAIN_S = 10.0  # after a model that could not be loaded
UNLOAD_S = 60.0  # for requests under way at its other processes
TIMEOUT_S = 600.0  # of a load: an index of millions is read and warmed up


class _Refused(Exception):
    """What the server answered instead of doing it."""


class Api(NamedTuple):
    """The server's HTTP, with the key to what is closed."""

    host: str
    port: int
    key: str

    def ask(self, method: str, path: str) -> Any:
        """The answer's JSON; None where it is empty. Raises _Refused, OSError, HTTPException."""
        connection = HTTPConnection(self.host, self.port, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, headers={NAME: self.key, "Content-Length": "0"})
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise _Refused(body.decode(errors="replace") or f"status {answer.status}")
        return json.loads(body) if body else None

    def ready(self, model: str) -> bool:
        """Whether the server says that a model is ready."""
        try:
            self.ask("GET", f"/v2/models/{model}/ready")
        except _Refused:
            return False
        return True

    def loaded(self) -> set[str]:
        """The models that the server says are ready, in any version."""
        found = self.ask("POST", "/v2/repository/index")
        return {model["name"] for model in found if model.get("state") == "READY"}

    def processes(self, model: str) -> int:
        """How many Python processes a model should have; 0 for one of another backend or not ready."""
        try:
            config = self.ask("GET", f"/v2/models/{model}/config")
        except _Refused:
            return 0
        if config.get("backend") != "python":
            return 0
        return sum(int(group["count"]) for group in config["instance_group"])


def api_of(serving: Serving) -> Api:
    """The HTTP of a server on this machine."""
    host = LOOPBACK if serving.http_host == EVERYWHERE else serving.http_host
    return Api(host, serving.ports.http, serving.key)


def stubs(server: int) -> dict[int, str]:
    """The Python processes of the server of a pid by theirs, and the model that each runs."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(errors="replace").rpartition(")")[2].split()  # before them a name, of any bytes
            if int(fields[1]) != server or fields[0] == "Z":
                continue
            command = path.with_name("cmdline").read_text(errors="replace").split("\0")
        except OSError:
            continue  # it ended between the listing and the look, or is another user's and hidden
        if Path(command[0]).name == STUB:
            found[int(path.parent.name)] = Path(command[1]).parts[-3]
    return found


def look_after(server: int, api: Api, waited: Callable[[float], bool], told: Callable[[str], None]) -> None:
    """Load models anew that lack a process in two looks, until `waited(seconds)` says that it is over."""
    wanted: dict[str, int] = {}
    before, lost = set[str](), set[str]()
    while not waited(AGAIN_S if lost else EVERY_S):
        try:
            short = _short(server, api, wanted)
        except (_Refused, OSError, HTTPException):
            continue  # it is starting or ending
        lost -= wanted.keys() - short  # loaded well by somebody else
        lost = {model for model in sorted(lost | (short & before)) if not _mended(model, api, told)}
        before = short


def _short(server: int, api: Api, wanted: dict[str, int]) -> set[str]:
    """Models with fewer processes than they should have; `wanted` keeps what was asked, so most looks ask one thing.

    Which models there are is asked each time: one that lost its only process before the first look shows no process.
    """
    running, loaded = Counter(stubs(server).values()), api.loaded()
    for model in wanted.keys() - loaded:
        del wanted[model]
    for model in loaded:
        if running[model] != wanted.get(model):
            wanted[model] = api.processes(model)
    return {model for model, count in wanted.items() if running[model] < count}


def _mended(model: str, api: Api, told: Callable[[str], None]) -> bool:
    told(f"{model}: a Python process of it is gone; loading it anew")
    began = time.monotonic()
    try:
        api.ask("POST", f"/v2/repository/models/{model}/unload")
        while api.ready(model) and time.monotonic() < began + UNLOAD_S:
            time.sleep(0.05)
        api.ask("POST", f"/v2/repository/models/{model}/load")
    except (_Refused, OSError, HTTPException) as error:
        told(f"{model}: could not be loaded ({error}); trying again in {AGAIN_S:g} s")
        return False
    told(f"{model}: answers again after {time.monotonic() - began:.1f} s")
    return True


@contextmanager
def watched(server: int, api: Api, told: Callable[[str], None]) -> Iterator[None]:
    """Look after the models of the server of a pid while the block runs."""
    over = threading.Event()
    thread = threading.Thread(target=look_after, args=(server, api, over.wait, told), name="watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
