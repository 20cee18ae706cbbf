"""Finding the server's environment and laying out the folder it runs from, the tracked repository left as it is."""

from __future__ import annotations

import os
import shutil
from ctypes.util import find_library
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

EXPORTED = {
    "preprocess": ("preprocess.json",),
    "embed": ("model.onnx",),
    "retrieve": ("index.faiss", "entries.parquet", "landmarks.parquet", "answer.json"),
}
WAY_OUT = "run `make setup`"


class ServerError(RuntimeError):
    """A server that cannot be started, or that stopped; the message says why and the way out."""


class ServerEnv(NamedTuple):
    """A virtual environment with nvidia-pytriton: the paths of what is in it."""

    root: Path
    binary: Path  # tritonserver
    backend: Path  # folder of the Python backend
    stub: Path  # the process that runs a Python model, built for this environment's Python
    libraries: tuple[Path, ...]  # folders


class Layout(NamedTuple):
    """What the server is started on."""

    binary: Path
    backends: Path
    models: Path


def find_server_env(root: Path) -> ServerEnv:
    """The server's environment at `root`.

    Raises ServerError if it is missing, has no nvidia-pytriton or no cairn, or has numpy 2, which the stub misreads
    without an error.
    """
    root = root.absolute()
    packages = next(iter(sorted(root.glob("lib/python3.*/site-packages"))), None)
    if packages is None:
        raise ServerError(f"{root}: no Python environment there; {WAY_OUT}, or pass --server-env")
    versions = {name: _version(packages, name) for name in ("nvidia-pytriton", "numpy", "cairn")}
    for name, version in versions.items():
        if version is None:
            raise ServerError(f"{root}: {name} is not installed there; {WAY_OUT}")
    if not str(versions["numpy"]).startswith("1."):
        raise ServerError(f"{root}: numpy {versions['numpy']}; the server's Python stub misreads numpy 2: {WAY_OUT}")
    server = packages / "pytriton" / "tritonserver"
    python = packages.parent.name.removeprefix("python")
    return ServerEnv(
        root=root,
        binary=_existing(server / "bin" / "tritonserver"),
        backend=_existing(server / "backends" / "python"),
        stub=_existing(server / "python_backend_stubs" / python / "triton_python_backend_stub"),
        libraries=(_existing(packages / "nvidia_pytriton.libs"), _base_libraries(root, packages.parent.name)),
    )


def _version(packages: Path, name: str) -> str | None:
    found = next(iter(metadata.distributions(name=name, path=[str(packages)])), None)
    return None if found is None else found.version


def _existing(path: Path) -> Path:
    if not path.exists():
        raise ServerError(f"{path}: no such file in nvidia-pytriton; {WAY_OUT}")
    return path


def _base_libraries(root: Path, python: str) -> Path:
    """The folder where the Python below a virtual environment keeps libpython, which the stub is linked with.

    Debian keeps it among the system's libraries, in a package of its own.
    """
    lines = (root / "pyvenv.cfg").read_text().splitlines()
    pairs = (line.partition("=") for line in lines)
    home = next((value.strip() for key, _, value in pairs if key.strip() == "home"), None)
    if home is None:
        raise ServerError(f"{root / 'pyvenv.cfg'}: names no `home`; {WAY_OUT}")
    folder = Path(home).parent / "lib"
    if not (folder / f"lib{python}.so.1.0").exists() and find_library(python) is None:
        raise ServerError(f"lib{python}.so.1.0 is needed by the server; on Debian: apt-get install lib{python}")
    return folder


def check_repository(repository: Path) -> None:
    """Raises ServerError, naming the file, if the models or what the export stage puts beside them are missing."""
    for model, names in EXPORTED.items():
        if not (repository / model / "config.pbtxt").exists():
            raise ServerError(
                f"{repository / model / 'config.pbtxt'}: no such file; {repository} is no model repository"
            )
        for name in names:
            path = repository / model / "1" / name
            if not path.exists():
                raise ServerError(f"{path}: no such file; run `make repro`, which exports it")


def lay_out(repository: Path, env: ServerEnv, folder: Path) -> Layout:
    """Lay out `folder`, over an earlier layout: models linked, their configs naming `env`, programs executable."""
    binary, models, backends = folder / env.binary.name, folder / "models", folder / "backends"
    binary.unlink(missing_ok=True)
    for old in (models, backends):
        if old.exists():
            shutil.rmtree(old)
    for source in sorted(path for path in repository.iterdir() if (path / "config.pbtxt").exists()):
        _lay_out_model(source.absolute(), models / source.name, env)
    backend = backends / "python"
    backend.mkdir(parents=True)
    for path in env.backend.iterdir():
        (backend / path.name).symlink_to(path)
    _place_executable(env.stub, backend / env.stub.name)
    _place_executable(env.binary, binary)
    return Layout(binary, backends, models)


def _place_executable(source: Path, target: Path) -> None:
    """Link a program, or copy it where it is not marked executable: the environment is left as it was installed."""
    if os.access(source, os.X_OK):
        target.symlink_to(source)
    else:
        shutil.copyfile(source, target)
        target.chmod(0o755)


def _lay_out_model(source: Path, target: Path, env: ServerEnv) -> None:
    target.mkdir(parents=True)
    config = (source / "config.pbtxt").read_text()
    if 'backend: "python"' in config:
        config += f'parameters {{ key: "EXECUTION_ENV_PATH" value: {{ string_value: "{env.root}" }} }}\n'
    (target / "config.pbtxt").write_text(config)
    for path in source.iterdir():
        if path.name != "config.pbtxt":
            (target / path.name).symlink_to(path)
