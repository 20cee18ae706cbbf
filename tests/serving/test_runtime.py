"""Finding the server's environment, and the folder the server runs from."""

from __future__ import annotations

from pathlib import Path

import pytest
from serving.tiny_repository import ROOT, Tiny

from cairn.serving.runtime import ServerError, find_server_env, lay_out
from cairn.serving.server import default_server_env


def environment(root: Path, **versions: str) -> Path:
    """A folder laid out like a virtual environment in which packages of these versions are installed."""
    packages = root / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    for name, version in versions.items():
        folder = packages / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n")
    return root


def test_the_environment_is_complete() -> None:
    env = find_server_env(default_server_env())
    assert all(path.exists() for path in (env.binary, env.backend, env.stub, *env.libraries))


def test_no_environment(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"no Python environment there; run `make setup`"):
        find_server_env(tmp_path / "none")


def test_an_environment_without_the_server(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"nvidia-pytriton is not installed there; run `make setup`"):
        find_server_env(environment(tmp_path, numpy="1.26.4", cairn="0.1.0"))


def test_numpy_2_is_refused(tmp_path: Path) -> None:
    root = environment(tmp_path, nvidia_pytriton="0.7.0", numpy="2.4.6", cairn="0.1.0")
    with pytest.raises(ServerError, match=r"numpy 2.4.6; .* misreads numpy 2: run `make setup`"):
        find_server_env(root)


def test_only_the_laid_out_configs_name_the_environment(tiny: Tiny, tmp_path: Path) -> None:
    env = find_server_env(default_server_env())
    layout = lay_out(tiny.repository, env, tmp_path / "serve")
    named = {path.parent.name for path in layout.models.glob("*/config.pbtxt") if str(env.root) in path.read_text()}
    assert named == {"preprocess", "embed", "retrieve"}
    assert not any("EXECUTION_ENV_PATH" in path.read_text() for path in ROOT.glob("triton_repo/*/config.pbtxt"))
    assert (layout.models / "embed" / "1" / "model.onnx").exists()


def test_laying_out_again_drops_what_was_there_and_nothing_else(tiny: Tiny, tmp_path: Path) -> None:
    env = find_server_env(default_server_env())
    (tmp_path / "models" / "old").mkdir(parents=True)
    (tmp_path / "kept.txt").write_text("mine")
    for _ in range(2):
        layout = lay_out(tiny.repository, env, tmp_path)
    assert sorted(path.name for path in layout.models.iterdir()) == ["embed", "landmark", "preprocess", "retrieve"]
    assert (tmp_path / "kept.txt").read_text() == "mine"


def test_programs_not_marked_executable_are_copied_and_marked(tiny: Tiny, tmp_path: Path) -> None:
    found = find_server_env(default_server_env())
    plain = tmp_path / "env" / "triton_python_backend_stub"
    plain.parent.mkdir()
    plain.write_bytes(b"a program")
    layout = lay_out(tiny.repository, found._replace(stub=plain), tmp_path / "serve")
    placed = layout.backends / "python" / plain.name
    assert not placed.is_symlink()
    assert placed.read_bytes() == b"a program"
    assert placed.stat().st_mode & 0o111
    assert not plain.stat().st_mode & 0o111
