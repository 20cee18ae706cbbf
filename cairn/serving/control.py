"""The key to what a running server keeps closed: loading models, its configuration, its statistics.

The launcher writes it beside the server's log, readable by its owner alone; whoever publishes an index reads it there.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from cairn.files import written_aside

FILE = "control.json"
KEY_VARIABLE = "CAIRN_CONTROL_KEY"
ADDRESS_VARIABLE = "CAIRN_SERVER"
CERTIFICATE_VARIABLE = "CAIRN_TLS_CA"
DEFAULT_ADDRESS = "127.0.0.1:8001"
NAME = "cairn-control"  # what Triton calls the key; gRPC clients send it behind a prefix
HEADER = f"triton-grpc-protocol-{NAME}"
KEY_LENGTH = 16  # characters that a key has at least


class ControlError(ValueError):
    """A key that is not there, or cannot be used; the message says where it was looked for and the way out."""


@dataclass(frozen=True)
class Control:
    """How to ask a server for what is closed: send `headers` with each gRPC request to `address`."""

    address: str  # host:port of gRPC
    header: str
    key: str
    certificate: str | None = None  # a PEM file to trust, of a server that speaks TLS

    @property
    def headers(self) -> dict[str, str]:
        """For the argument `headers` of Triton's gRPC client."""
        return {self.header: self.key}


def new_key() -> str:
    """The value of CAIRN_CONTROL_KEY; a random key where it is not set. Raises ControlError if it is too short."""
    given = os.environ.get(KEY_VARIABLE, "")
    if not given:
        return secrets.token_hex(16)
    if len(given) < KEY_LENGTH or not (given.isascii() and given.isalnum()):
        raise ControlError(
            f"{KEY_VARIABLE}: at least {KEY_LENGTH} letters and digits are needed: `openssl rand -hex 16`"
        )
    return given


def write(folder: Path, control: Control) -> Path:
    """Write control.json, readable by its owner alone; gives its path."""
    with written_aside(folder / FILE) as aside:
        aside.touch(mode=0o600)
        aside.write_text(json.dumps(asdict(control), indent=2) + "\n")
    return folder / FILE


def elsewhere(address: str) -> Control:
    """How to ask a server with the key that CAIRN_CONTROL_KEY holds; CAIRN_TLS_CA says who vouches for it, if it speaks
    TLS. Raises ControlError if the key is too short.
    """
    return Control(address, HEADER, new_key(), os.environ.get(CERTIFICATE_VARIABLE) or None)


def read(folder: Path) -> Control:
    """What the launcher wrote into `folder`; where nothing is, the server that the environment names.

    CAIRN_CONTROL_KEY has its key, CAIRN_SERVER its address, CAIRN_TLS_CA who vouches for it, if it speaks TLS.
    Raises ControlError if neither is there, or the file cannot be read or is of another form.
    """
    path = folder / FILE
    try:
        return Control(**json.loads(path.read_text()))
    except FileNotFoundError as error:
        if not os.environ.get(KEY_VARIABLE):
            raise ControlError(
                f"{path}: no such file; no server runs from {folder}. Start one with `make serve`, name its folder, or "
                f"give the key of a server elsewhere in {KEY_VARIABLE} and its address in {ADDRESS_VARIABLE}"
            ) from error
        return elsewhere(os.environ.get(ADDRESS_VARIABLE) or DEFAULT_ADDRESS)
    except PermissionError as error:
        raise ControlError(f"{path}: only the user who started the server may read it") from error
    except (ValueError, TypeError) as error:
        raise ControlError(f"{path}: not what the launcher writes ({error}); start the server again") from error
