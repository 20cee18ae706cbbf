"""A gallery on a copy of the tiny repository, and the commands run on both."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from serving.tiny_repository import Tiny, build_tiny, embed_offline, photo

from cairn.client.main import main
from cairn.gallery.versions import numbers
from cairn.serving.retrieving import Retriever

NEW, NAME = 13, "Мост"  # the landmark that the tiny repository does not know

KILLED = """
import os, signal, sys
from unittest.mock import patch
from cairn.client.main import main
def kill(*_): os.kill(os.getpid(), signal.SIGKILL)
with patch(sys.argv[1], kill):
    main(sys.argv[2:])
"""


class Place(NamedTuple):
    """Folders, and the files of photos to add."""

    tiny: Tiny
    gallery: Path
    photos: Path

    def run(self, command: str, *arguments: str | Path) -> int:
        """The exit status of `cairn COMMAND ...` on these folders."""
        folders = ["--gallery", str(self.gallery), "--repository", str(self.tiny.repository)]
        return main([command, *map(str, arguments), *folders])

    def run_killed(self, at: str, command: str, *arguments: str | Path) -> None:
        """As `run`, in a process of its own that is killed where it calls `at`."""
        folders = ["--gallery", self.gallery, "--repository", self.tiny.repository]
        ran = subprocess.run([sys.executable, "-c", KILLED, at, command, *arguments, *folders], check=False)
        assert ran.returncode == -signal.SIGKILL

    def publish(self, *arguments: str | Path) -> int:
        """As `run`, without a server; gives the newest version."""
        assert self.run("publish", "--no-reload", *arguments) == 0
        return numbers(self.tiny.repository)[-1]

    def version(self, number: int) -> Path:
        """The folder of a version."""
        return self.tiny.repository / "retrieve" / str(number)

    def answers(self, number: int, photos: list[bytes]) -> dict[str, NDArray[np.generic]]:
        """What a version of the index answers."""
        return Retriever(self.version(number), number)(self.embedded(photos))

    def embedded(self, photos: list[bytes]) -> NDArray[np.float32]:
        """By the repository's network."""
        return embed_offline(self.tiny.repository / "embed" / "1" / "model.onnx", photos)


def make_place(folder: Path) -> Place:
    """The tiny repository below `folder`, no gallery yet, and six photos of the new landmark."""
    place = Place(build_tiny(folder), folder / "gallery", folder / "new")
    place.photos.mkdir()
    rng = np.random.default_rng(5)
    for number in range(6):
        (place.photos / f"{number}.png").write_bytes(photo(NEW, rng))
    return place


def query(landmark: int, seed: int = 77) -> bytes:
    """A photo of a landmark that is in no index."""
    return photo(landmark, np.random.default_rng(seed))


def data_files(folder: Path) -> dict[str, bytes]:
    """Every file of a version but the one that says which version it is."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.name != "version.json"}
