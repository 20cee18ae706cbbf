"""Finding the server's environment, and the folder the server runs from."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from serving.tiny_repository import Tiny

from cairn.gallery.versions import exported_version, write_version
from cairn.serving.command import Serving
from cairn.serving.plans import PlanError
from cairn.serving.runtime import (
    ServerError,
    check_backend,
    check_repository,
    check_serving,
    find_server_env,
    lay_out,
)
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
    assert all(path.exists() for path in (env.binary, env.backends, env.stub, *env.libraries))


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


def test_laying_out_again_drops_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    env = find_server_env(default_server_env())
    (tmp_path / "backends" / "old").mkdir(parents=True)
    (tmp_path / "kept.txt").write_text("mine")
    for _ in range(2):
        layout = lay_out(env, tmp_path)
    assert sorted(path.name for path in layout.backends.iterdir()) == ["python"]
    assert (layout.backends / "python" / "libtriton_python.so").exists()
    assert os.access(layout.binary, os.X_OK)
    assert (tmp_path / "kept.txt").read_text() == "mine"


def test_programs_not_marked_executable_are_copied_and_marked(tmp_path: Path) -> None:
    found = find_server_env(default_server_env())
    plain = tmp_path / "env" / "triton_python_backend_stub"
    plain.parent.mkdir()
    plain.write_bytes(b"a program")
    layout = lay_out(found._replace(stub=plain), tmp_path / "serve")
    placed = layout.backends / "python" / plain.name
    assert not placed.is_symlink()
    assert placed.read_bytes() == b"a program"
    assert placed.stat().st_mode & 0o111
    assert not plain.stat().st_mode & 0o111


def test_a_backend_that_the_server_has_not() -> None:
    with pytest.raises(ServerError, match=r"no backend `tensorrt`; .* has only \['python'\]. Serve from the official"):
        check_backend(find_server_env(default_server_env()), "tensorrt")


def test_what_each_embedder_needs(tiny: Tiny, tmp_path: Path) -> None:
    check_repository(tiny.repository, "python")
    repository = tmp_path / "repository"
    shutil.copytree(tiny.repository, repository)
    (repository / "embed" / "configs").mkdir(exist_ok=True)
    (repository / "embed" / "configs" / "tensorrt.pbtxt").touch()
    with pytest.raises(ServerError, match=r"embed/1/model.plan: no such file; run `cairn plan`"):
        check_repository(repository, "tensorrt")
    (repository / "embed" / "1" / "model.plan").touch()
    check_repository(repository, "tensorrt")
    check_serving(Serving(repository, key=""))
    with pytest.raises(PlanError, match=r"model.plan.json: no such file; run `cairn plan`"):
        check_serving(Serving(repository, key="", embedder="tensorrt"))
    (repository / "embed" / "configs" / "tensorrt.pbtxt").unlink()
    with pytest.raises(ServerError, match=r"configs/tensorrt.pbtxt: no such file; run `make repro`"):
        check_repository(repository, "tensorrt")


def test_the_newest_version_is_looked_at(tiny: Tiny, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(tiny.repository, repository)
    shutil.copytree(repository / "retrieve" / "1", repository / "retrieve" / "10")
    write_version(repository / "retrieve" / "10", exported_version(repository))
    shutil.rmtree(repository / "retrieve" / "1")
    (repository / "retrieve" / ".11.aside").mkdir()
    check_repository(repository, "python")
    for needed in ("answer.json", "landmarks.parquet", "entries.arrow", "index.faiss"):  # the first of DATA_FILES last
        (repository / "retrieve" / "10" / needed).unlink()
        with pytest.raises(ServerError, match=rf"retrieve/10/{needed}: no such file"):
            check_repository(repository, "python")


def test_a_folder_that_is_no_repository(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"preprocess: no such folder; .* is no model repository"):
        check_repository(tmp_path, "python")
