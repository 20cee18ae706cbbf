"""The `cairn` command: `cairn query` against the real server, and the table of subcommands."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from serving.tiny_repository import NAMES, Tiny

from cairn.client.main import COMMANDS, main
from cairn.client.query import found_in
from cairn.serving.server import free_ports


@pytest.fixture
def photos(tiny: Tiny, tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "deep" / ".hidden").mkdir(parents=True)
    (folder / "東京.PNG").write_bytes(tiny.known[8])
    (folder / "deep" / "eiffel.png").write_bytes(tiny.known[3])
    (folder / "none.png").write_bytes(tiny.unknown)
    (folder / "notes.txt").write_text("not a photo")
    (folder / "deep" / ".hidden" / "x.png").write_bytes(tiny.unknown)
    return folder


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_json_of_a_folder(photos: Path, tiny_server: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", "--json", "--server", tiny_server, str(photos)]) == 0
    eiffel, none, tokyo = lines(capsys)
    assert [eiffel["image"], none["image"], tokyo["image"]] == [
        str(photos / name) for name in ("deep/eiffel.png", "none.png", "東京.PNG")
    ]
    assert list(eiffel) == ["image", "landmark_id", "landmark", "score", "probability", "neighbours"]
    assert (eiffel["landmark_id"], eiffel["landmark"]) == (3, NAMES[3])
    assert (none["landmark_id"], none["landmark"]) == (None, None)
    assert (tokyo["landmark_id"], tokyo["landmark"]) == (8, NAMES[8])
    assert all(list(near) == ["image_id", "landmark_id", "score"] for near in eiffel["neighbours"])
    assert [near["landmark_id"] for near in eiffel["neighbours"][:6]] == [3] * 6


def test_photos_that_fail_have_a_line_and_set_the_status(
    photos: Path, tiny_server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, missing, empty = photos / "broken.jpg", photos / "missing.jpg", photos / "empty"
    broken.write_bytes(b"no photo")
    empty.mkdir()
    given = [str(path) for path in (missing, photos / "none.png", broken, photos / "東京.PNG", empty)]
    assert main(["query", "--json", "--server", tiny_server, *given]) == 1
    got = lines(capsys)
    assert [line["image"] for line in got] == given
    assert got[0] == {"image": given[0], "error": "cannot be read: No such file or directory"}
    assert got[1]["landmark_id"] is None
    assert got[2]["error"].startswith("not an image of a known format")
    assert got[3]["landmark_id"] == 8
    assert got[4] == {"image": given[4], "error": "no image files in this folder"}


def test_top_of_the_neighbours(photos: Path, tiny_server: str, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["query", "--server", tiny_server, "--top", "2", str(photos / "none.png")]
    assert main([*asked, "--json"]) == 0
    (line,) = lines(capsys)
    assert len(line["neighbours"]) == 2
    assert main(asked) == 0
    first, *near = capsys.readouterr().out.splitlines()
    assert (
        first == f"{photos / 'none.png'}: no landmark, score {line['score']:.3f}, probability {line['probability']:.2f}"
    )
    assert [row.split()[0] for row in near] == [near["image_id"] for near in line["neighbours"]]


def test_text(photos: Path, tiny_server: str, capsys: pytest.CaptureFixture[str]) -> None:
    path, missing = photos / "東京.PNG", photos / "missing.jpg"
    assert main(["query", "--server", tiny_server, str(path), str(missing)]) == 1
    shown, failed = capsys.readouterr().out.splitlines()
    assert shown.startswith(f"{path}: 東京タワー (8), score 5.00")
    assert failed == f"{missing}: error: cannot be read: No such file or directory"


def test_no_server(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = f"127.0.0.1:{free_ports().grpc}"
    assert main(["query", "--server", address, str(photos)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"cairn query: {address}: no server answers there; start one with `make serve`")


def test_a_folder_is_walked_in_order_without_hidden_and_other_files(photos: Path) -> None:
    assert found_in(photos) == [photos / "deep" / "eiffel.png", photos / "none.png", photos / "東京.PNG"]
    assert found_in(photos / "notes.txt") == [photos / "notes.txt"]


@pytest.mark.parametrize("wrong", [["--timeout", "0"], ["--timeout", "soon"], ["--top", "-1"], ["--nothing"]])
def test_wrong_options(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["query", "photo.jpg", *wrong])
    assert caught.value.code == 2
    assert wrong[0] in capsys.readouterr().err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert all(f"  {name}" in out and command.summary in out for name, command in COMMANDS.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(import_module(COMMANDS[name].module).run)
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    assert f"usage: cairn {name}" in capsys.readouterr().out


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["guess"])
    assert caught.value.code == 2
    assert "invalid choice: 'guess'" in capsys.readouterr().err
