"""The `cairn` command: `cairn query` against the real server, and the table of subcommands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import grpc
import pytest
from client.between import between
from serving.certificates import Authority
from serving.tiny_repository import NAMES, Tiny

from cairn.client import Answer, Client
from cairn.client.given import contents, found_in
from cairn.client.main import COMMANDS, main
from cairn.serving.server import free_ports

ROOT = Path(__file__).parents[2]


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
    assert list(eiffel) == ["image", "landmark_id", "landmark", "score", "probability", "neighbours", "index_version"]
    assert (eiffel["landmark_id"], eiffel["landmark"]) == (3, NAMES[3])
    assert (none["landmark_id"], none["landmark"]) == (None, None)
    assert (tokyo["landmark_id"], tokyo["landmark"]) == (8, NAMES[8])
    assert all(
        list(near) == ["image_id", "landmark_id", "landmark", "score", "attribution"] for near in eiffel["neighbours"]
    )
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


def lists(photos: Path) -> dict[str, bytes]:
    """The same two photos as a list of lines and as one with NULs; a path may hold a newline only in the second."""
    odd = photos / "two\nlines.png"
    odd.write_bytes((photos / "none.png").read_bytes())
    wanted = [os.fsencode(photos / "deep" / "eiffel.png"), os.fsencode(photos / "東京.PNG")]
    return {
        "lines": b"\n".join(wanted) + b"\n",
        "windows": b"\r\n".join([*wanted, b""]),
        "nul": b"\0".join([*wanted, os.fsencode(odd)]) + b"\0",
    }


@pytest.mark.parametrize("kind", ["lines", "windows", "nul"])
@pytest.mark.parametrize("by_stdin", [False, True])
def test_photos_of_a_list(
    photos: Path, tiny_server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, by_stdin: bool
) -> None:
    content = lists(photos)[kind]
    (tmp_path / "list").write_bytes(content)
    source = "-" if by_stdin else str(tmp_path / "list")
    command = [sys.executable, "-m", "cairn.client.main", "query", "--json", "--server", tiny_server]
    done = subprocess.run(
        [*command, "--files-from", source, str(photos / "none.png")], input=content, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    got = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["landmark_id"] for line in got] == [None, 3, 8] + [None] * (kind == "nul")
    assert got[1]["image"] == str(photos / "deep" / "eiffel.png")


def test_a_photo_on_standard_input(photos: Path, tiny_server: str) -> None:
    command = [sys.executable, "-m", "cairn.client.main", "query", "--json", "--server", tiny_server, "-"]
    with (photos / "東京.PNG").open("rb") as file:
        done = subprocess.run(command, stdin=file, capture_output=True, check=True)
    assert [json.loads(done.stdout)[key] for key in ("image", "landmark_id")] == ["-", 8]


def test_a_batch_changes_no_line(photos: Path, tiny_server: str, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "broken.jpg").write_bytes(b"no photo")
    asked = ["query", "--json", "--server", tiny_server, str(photos), "missing.jpg"]
    assert main(asked) == 1
    single = [(line["image"], line.get("landmark_id"), line.get("error")) for line in lines(capsys)]
    assert main([*asked, "--batch", "3"]) == 1
    assert [(line["image"], line.get("landmark_id"), line.get("error")) for line in lines(capsys)] == single
    assert sum(error is not None for _, _, error in single) == 2


def test_a_refused_photo_names_its_request(photos: Path, tiny_server: str, capsys: pytest.CaptureFixture[str]) -> None:
    broken = photos / "broken.jpg"
    broken.write_bytes(b"no photo")
    with between(tiny_server) as way:
        assert main(["query", "--json", "--server", way.address, str(broken)]) == 1
        assert lines(capsys)[0]["request_id"] == way.request_ids[0]
        assert main(["query", "--server", way.address, str(broken)]) == 1
        assert capsys.readouterr().out.endswith(f"(request {way.request_ids[1]})\n")


def test_checked_point_by_point(photos: Path, tiny: Tiny, tiny_server: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Client(tiny_server) as client:
        (answer,) = client.query([tiny.known[3]])
        assert isinstance(answer, Answer)
        (photos / "own.png").write_bytes(client.photo(answer.neighbours[0].image_id))
    asked = ["query", "--server", tiny_server, "--check", "2", str(photos / "own.png"), str(photos / "missing.jpg")]
    assert main([*asked, "--json"]) == 1
    own, missing = lines(capsys)
    assert missing["error"] == "cannot be read: No such file or directory"
    assert [near["inliers"] is None for near in own["neighbours"]] == [False] * 2 + [True] * 8
    assert own["neighbours"][0]["inliers"] > 5
    assert main(asked) == 1
    _, first, second, _ = capsys.readouterr().out.splitlines()
    near = own["neighbours"][0]
    shown = f"    {near['image_id']}  1.000, {near['inliers']} matching points  {NAMES[3]} (3)  [{near['attribution']}]"
    assert first == shown
    assert " matching points  " in second


def test_a_server_that_goes_away_names_the_photo(
    photos: Path, tiny_server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with between(tiny_server) as way:
        way.failures = [(grpc.StatusCode.INTERNAL, "broke")]
        assert main(["query", "--server", way.address, str(photos / "none.png")]) == 2
    assert capsys.readouterr().err.startswith(f"cairn query: {photos / 'none.png'}: {way.address}: broke")


def test_no_more_of_a_file_is_read_than_shows_that_it_is_too_large(tmp_path: Path) -> None:
    large = tmp_path / "large.jpg"
    with large.open("wb") as file:
        file.truncate(10**12)  # a file of holes
    ((_, got),) = contents([large], 0.001)
    assert str(got) == "over the limit of 0.001 MB"
    ((_, endless),) = contents([Path("/dev/zero")], 0.001)
    assert str(endless) == "over the limit of 0.001 MB"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([], "no photos given; see `cairn query --help`"),
        (["-", "-"], "standard input (-) can be read only once"),
        (["-", "--files-from", "-"], "standard input (-) can be read only once"),
        (["--files-from", "/no/such/list"], "No such file or directory: '/no/such/list'"),
        (["x.jpg", "--tls-cert", "a.pem"], "given together or not at all"),
        (["x.jpg", "--tls-ca", "/no/such/ca"], "/no/such/ca: no such file; TLS takes PEM files"),
        (["x.jpg", "--batch", "65"], "photos_a_request = 65: the server takes at most 64"),
    ],
)
def test_what_cannot_be_tried_is_said(wrong: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", *wrong]) == 2
    err = capsys.readouterr().err
    assert err.startswith("cairn query: ")
    assert said in err


def test_standard_input_is_no_entry_of_a_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list").write_text("a.jpg\n-\n")
    assert main(["query", "--files-from", str(tmp_path / "list")]) == 2
    assert capsys.readouterr().err.startswith(f"cairn query: {tmp_path / 'list'}: holds the path `-`")


def test_tls_options(photos: Path, tiny_server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority, ca = Authority(), tmp_path / "ca.pem"
    ca.write_bytes(authority.certificate)
    certificate, key = authority.write(tmp_path, "server")
    asks = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
    with between(tiny_server, asks) as way:
        asked = ["query", "--json", "--server", way.address, str(photos / "none.png")]
        assert main([*asked, "--tls-ca", str(ca)]) == 0
        assert main([*asked, "--connect-timeout", "2", "--attempts", "1"]) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        ["--timeout", "0"],
        ["--timeout", "soon"],
        ["--top", "-1"],
        ["--check", "0"],
        ["--check", "11"],
        ["--batch", "0"],
        ["--attempts", "²"],
        ["--nothing"],
    ],
)
def test_wrong_options(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["query", "photo.jpg", *wrong])
    assert caught.value.code == 2
    assert wrong[0] in capsys.readouterr().err


def test_help_fits_a_terminal_and_has_examples(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main(["query", "--help"])
    out = capsys.readouterr().out
    assert "examples:\n  cairn query tower.jpg" in out
    assert "exit status:" in out
    assert max(map(len, out.splitlines())) <= 80


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


def test_a_plan_without_torch_names_the_extras_that_bring_it() -> None:
    code = "import sys; sys.modules['torch'] = None; from cairn.client.main import main; sys.exit(main(['plan']))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    (extras,) = re.findall(r"install `cairn\[(.*)\]`", ran.stderr)
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    brought = {line.split("=")[0].split(">")[0] for extra in extras.split(",") for line in known[extra]}
    assert {"torch", "tensorrt"} <= brought


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["guess"])
    assert caught.value.code == 2
    assert "invalid choice: 'guess'" in capsys.readouterr().err
