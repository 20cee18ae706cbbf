"""The key to what a running server keeps closed: written for its owner alone, read back, or a clear error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cairn.serving.control import (
    ADDRESS_VARIABLE,
    CERTIFICATE_VARIABLE,
    FILE,
    HEADER,
    KEY_VARIABLE,
    Control,
    ControlError,
    new_key,
    read,
    write,
)


@pytest.fixture(autouse=True)
def _no_key_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (KEY_VARIABLE, ADDRESS_VARIABLE, CERTIFICATE_VARIABLE):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("certificate", [None, "/certificates/server.pem"])
def test_what_is_written_is_read_and_only_by_its_owner(tmp_path: Path, certificate: str | None) -> None:
    control = Control("127.0.0.1:8001", HEADER, "0123456789abcdef", certificate)
    (tmp_path / FILE).write_text("old, and open to all")
    path = write(tmp_path, control)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read(tmp_path) == control
    assert control.headers == {"triton-grpc-protocol-cairn-control": "0123456789abcdef"}


def test_no_server_runs(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match=rf"{FILE}: no such file; no server runs from .* `make serve`"):
        read(tmp_path)


def test_a_server_elsewhere_is_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "k" * 16)
    assert read(tmp_path) == Control("127.0.0.1:8001", HEADER, "k" * 16)
    monkeypatch.setenv(ADDRESS_VARIABLE, "server:9001")
    monkeypatch.setenv(CERTIFICATE_VARIABLE, "/ca.pem")
    assert read(tmp_path) == Control("server:9001", HEADER, "k" * 16, "/ca.pem")
    write(tmp_path, Control("127.0.0.1:7", HEADER, "x" * 16))
    assert read(tmp_path).address == "127.0.0.1:7"  # what runs from the folder comes first


@pytest.mark.parametrize("content", ["", "[]", '{"address": "a"}', json.dumps({"key": 1, "other": 2})])
def test_a_file_of_another_form(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(ControlError, match=rf"{FILE}: not what the launcher writes"):
        read(tmp_path)


def test_keys_are_random_or_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len({new_key() for _ in range(10)}) == 10
    monkeypatch.setenv(KEY_VARIABLE, "abcdefgh12345678")
    assert new_key() == "abcdefgh12345678"


@pytest.mark.parametrize("key", ["short", "with a space in it", "comma,comma,comma,", "ключ" * 8])
def test_keys_that_cannot_be(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv(KEY_VARIABLE, key)
    with pytest.raises(ControlError, match=rf"{KEY_VARIABLE}: at least 16 letters and digits"):
        new_key()
