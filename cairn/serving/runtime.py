"""Finding the server's environment, and laying out the folder with its programs. The repository is served as it is."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ctypes.util import find_library
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from cairn.files import discard
from cairn.gallery.locking import GalleryError
from cairn.gallery.versions import check_versions, versions_of
from cairn.serving.command import Embedder, Serving
from cairn.serving.plans import PLAN_FILE, check_plan, host

DATA_FILES = {
    "preprocess": ("preprocess.json",),
    "embed": ("model.onnx",),
    "retrieve": ("index.faiss", "entries.arrow", "landmarks.parquet", "answer.json"),
}
WAY_OUT = "run `make setup`"


class ServerError(RuntimeError):
    """A server that cannot be started, or that stopped; the message says why and the way out."""


class ServerEnv(NamedTuple):
    """A virtual environment with nvidia-pytriton: the paths of what is in it."""

    root: Path
    binary: Path  # tritonserver
    backends: Path  # folder of folders, `python` among them
    stub: Path  # the process that runs a Python model, built for this environment's Python
    libraries: tuple[Path, ...]  # folders


class Layout(NamedTuple):
    """What the server is started from."""

    binary: Path
    backends: Path


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
        backends=_existing(server / "backends" / "python").parent,
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


def check_serving(serving: Serving) -> None:
    """Raises ServerError or PlanError if the repository, or the plan where TensorRT is to run the network, cannot be
    served here. Warns of what may only be slow.
    """
    check_repository(serving.repository, serving.embedder)
    if serving.embedder == "tensorrt":
        for warning in check_plan(serving.repository / "embed" / "1", host()):
            print(warning, file=sys.stderr)


def check_repository(repository: Path, embedder: Embedder) -> None:
    """Raises ServerError, naming the file, if the models or what the export stage puts beside them are missing, or the
    newest index is one of another network.

    Of a model with several versions the newest is looked at; `embedder` is what will run the network.
    """
    config = "config.pbtxt" if embedder == "python" else f"configs/{embedder}.pbtxt"
    for model, names in _needed(embedder).items():
        folder = repository / model
        if not folder.is_dir():
            raise ServerError(f"{folder}: no such folder; {repository} is no model repository")
        data = folder / str(newest_version(folder))
        for path in (folder / (config if model == "embed" else "config.pbtxt"), *(data / name for name in names)):
            if not path.exists():
                raise ServerError(f"{path}: no such file; run {_maker(path)}")
    try:
        check_versions(repository)
    except GalleryError as error:
        raise ServerError(str(error)) from error


def _needed(embedder: Embedder) -> dict[str, tuple[str, ...]]:
    return DATA_FILES if embedder != "tensorrt" else {**DATA_FILES, "embed": (PLAN_FILE,)}


def _maker(path: Path) -> str:
    return "`cairn plan`, which builds it" if path.name == PLAN_FILE else "`make repro`, which exports it"


def newest_version(model: Path) -> int:
    """The highest number of a version's folder below a model's; 1 where there is none."""
    return max(versions_of(model), default=1)


def check_backend(env: ServerEnv, embedder: Embedder) -> None:
    """Raises ServerError if the environment's server has no backend of that name."""
    if not (env.backends / embedder).is_dir():
        raise ServerError(
            f"{env.backends}: no backend `{embedder}`; the server of {env.root.name} has only "
            f"{sorted(path.name for path in env.backends.iterdir())}. Serve from the official container, as "
            "docs/serving.md says, or with --embedder python"
        )


def check_path(path: Path) -> None:
    """Raises ServerError if a shell would misread a path: Triton 2.51 starts Python models through one, unquoted."""
    if not _is_plain(path):
        raise ServerError(
            f"{path}: Triton starts Python models through a shell, which this path would confuse; put it where the "
            "path has only letters of ASCII, digits, / and any of @%+=:,.-_"
        )


def _is_plain(path: Path) -> bool:
    return shlex.quote(str(path)) == str(path)


@contextmanager
def shell_safe(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """The paths, in place of each that a shell would misread a link to it, while the block runs.

    Raises ServerError if there is no folder for links that a shell reads right: TMPDIR has such a path.
    """
    with ExitStack() as stack:
        yield tuple(path if _is_plain(path) else _linked(path, stack) for path in paths)


def _linked(path: Path, stack: ExitStack) -> Path:
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="cairn-link-")))
    check_path(folder)
    (folder / "linked").symlink_to(path.absolute(), target_is_directory=True)
    return folder / "linked"


def lay_out(env: ServerEnv, folder: Path) -> Layout:
    """Lay out `folder`, over an earlier layout: the server and its backends, linked, programs executable."""
    binary, backends = folder / env.binary.name, folder / "backends"
    binary.unlink(missing_ok=True)
    discard(backends)
    for backend in sorted(path for path in env.backends.iterdir() if path.is_dir()):
        (backends / backend.name).mkdir(parents=True)
        for path in backend.iterdir():
            (backends / backend.name / path.name).symlink_to(path)
    _place_executable(env.stub, backends / "python" / env.stub.name)
    _place_executable(env.binary, binary)
    return Layout(binary, backends)


def _place_executable(source: Path, target: Path) -> None:
    """Link a program, or copy it where it is not marked executable: the environment is left as it was installed."""
    if os.access(source, os.X_OK):
        target.symlink_to(source)
    else:
        shutil.copyfile(source, target)
        target.chmod(0o755)
