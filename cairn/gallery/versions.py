"""The versions of the served index, `retrieve/<number>/`: 1 is the pipeline's, later ones are published.

A version says in version.json which network and which exported index it is made for. Only what needs neither FAISS nor
ONNX Runtime belongs here: the launcher asks it too.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from cairn.files import FormError, discard, link, read_form, sha256_of, write_json, written_aside
from cairn.gallery.locking import GalleryError
from cairn.serving.plans import NETWORK_FILE, NetworkHashes

EXPORTED = 1  # the version that the pipeline makes
VERSION_FILE = "version.json"
LAST_FILE = "last_version.json"  # the highest number when a version was last taken away: it is not given again
MODEL = "retrieve"
NETWORK = Path("embed", "1", "model.onnx")
CODE = "model.py"


class Version(BaseModel):
    """What version.json says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: str  # sha256 of the network whose embeddings it holds
    exported: str  # sha256 over the exported index that it is made from
    content_of: int  # the number under which this content was first published
    change: int  # the last change of the gallery that is in it; 0: none
    added: int  # photos from the gallery
    removed: int  # photos of the exported index


def versions_of(model: Path) -> list[int]:
    """The numbers of a model's version folders, rising; one that is still being written has none yet."""
    return sorted(int(path.name) for path in model.iterdir() if path.name.isdecimal() and path.is_dir())


def numbers(repository: Path) -> list[int]:
    """Of the versions of the index that are there, rising."""
    return versions_of(repository / MODEL)


def next_number(repository: Path) -> int:
    """One that no version has had."""
    last = repository / MODEL / LAST_FILE
    retired = int(last.read_text()) if last.exists() else EXPORTED
    return max([retired, *numbers(repository)]) + 1


def read_version(repository: Path, number: int) -> Version:
    """What is known of a published version. Raises GalleryError if it says nothing."""
    path = repository / MODEL / str(number) / VERSION_FILE
    try:
        return Version.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise GalleryError(
            f"{path}: not what `cairn publish` writes ({error}); delete the folder and publish again"
        ) from error


def write_version(folder: Path, version: Version) -> None:
    """Write version.json."""
    write_json(folder / VERSION_FILE, version.model_dump())


def network_hash(repository: Path) -> str:
    """sha256 of the exported network: of the file, or as it was noted where only a plan of it is deployed.

    Raises GalleryError if there is neither, or the note is damaged.
    """
    path = repository / NETWORK
    if path.exists():
        return sha256_of(path)
    try:
        return read_form(path.with_name(NETWORK_FILE), NetworkHashes, "run `make repro`, which exports it").fp32
    except FormError as error:
        raise GalleryError(str(error)) from error


def exported_hash(repository: Path) -> str:
    """sha256 over the data files of the exported index; the model's code may change."""
    folder = repository / MODEL / str(EXPORTED)
    return _hash(sorted(path for path in folder.rglob("*") if path.is_file() and not _is_code(path)))


def _is_code(path: Path) -> bool:
    return path.name == CODE or path.parent.name == "__pycache__"


def _hash(paths: list[Path]) -> str:
    whole = hashlib.sha256()
    for path in paths:
        whole.update(f"{path.name} {sha256_of(path)}\n".encode())
    return whole.hexdigest()


def check_versions(repository: Path) -> None:
    """Raises GalleryError if the newest version of the index is made for another network, or by an older Cairn."""
    newest = max(numbers(repository), default=EXPORTED)
    if newest == EXPORTED:
        return
    folder, ours = repository / MODEL / str(newest), repository / MODEL / str(EXPORTED) / CODE
    if read_version(repository, newest).network != network_hash(repository):
        raise GalleryError(
            f"{folder}: made for another network than {repository / NETWORK}; run `cairn publish`, which makes it anew"
        )
    if ours.exists() and (folder / CODE).read_bytes() != ours.read_bytes():
        raise GalleryError(f"{folder / CODE}: not the code of this Cairn; run `cairn publish`, which makes it anew")


def retire(repository: Path) -> list[int]:
    """Remove the published versions that are made for another export than the one there now; gives their numbers.

    Prints what went: until `cairn publish` makes them anew, the exported index is served as it is.
    """
    published = [number for number in numbers(repository) if number > EXPORTED]
    if not published:
        return []
    now = (network_hash(repository), exported_hash(repository))
    gone = [number for number in published if not _is_for(repository, number, *now)]
    withdraw(repository, gone)
    if gone:
        listed = ", ".join(map(str, gone))
        print(f"removed from {repository / MODEL}: version {listed}, of an older export; `cairn publish` makes it anew")
    return gone


def withdraw(repository: Path, gone: list[int]) -> None:
    """Remove versions, the newest too; no number is given again, as a running server may know what it had by it."""
    if gone:
        write_json(repository / MODEL / LAST_FILE, next_number(repository) - 1)
    for number in gone:
        discard(repository / MODEL / str(number))


def _is_for(repository: Path, number: int, network: str, exported: str) -> bool:
    try:
        version = read_version(repository, number)
    except GalleryError:
        return False  # of unknown origin
    return (version.network, version.exported) == (network, exported)


def prune(repository: Path, keep: int) -> list[int]:
    """Remove all but the newest `keep` published versions; gives the numbers of those removed."""
    published = [number for number in numbers(repository) if number > EXPORTED]
    gone = published[:-keep]
    for number in gone:
        discard(repository / MODEL / str(number))
    return gone


def before_newest(repository: Path) -> int:
    """What was served before the newest one: the last version whose content was published before that one's.

    So what was taken back once does not come back. Raises GalleryError if none is left.
    """
    contents = {number: _content_of(repository, number) for number in numbers(repository)}
    newest = max(contents)
    older = [number for number, content in contents.items() if content < contents[newest]]
    if not older:
        raise GalleryError(
            f"{repository / MODEL}: nothing from before version {newest} is left; there is {list(contents)}"
        )
    return max(older)


def _content_of(repository: Path, number: int) -> int:
    return EXPORTED if number == EXPORTED else read_version(repository, number).content_of


def publish_again(repository: Path, number: int) -> int:
    """Give the content of a version a new number, which is returned; its files are linked, not copied.

    Raises GalleryError if there is no such version, or it is made for another network.
    """
    source = repository / MODEL / str(number)
    if number not in numbers(repository):
        raise GalleryError(f"{source}: no such version; there are {numbers(repository)}")
    version = exported_version(repository) if number == EXPORTED else read_version(repository, number)
    if version.network != network_hash(repository):
        raise GalleryError(f"{source}: made for another network than {repository / NETWORK}; it cannot be served again")
    new = next_number(repository)
    with written_aside(repository / MODEL / str(new)) as aside:
        copy_tree(source, aside)
        copy_code(repository, aside)
        discard(aside / VERSION_FILE)
        write_version(aside, version)
    return new


def exported_version(repository: Path) -> Version:
    """The pipeline's own, as if it had been published."""
    network, exported = network_hash(repository), exported_hash(repository)
    return Version(network=network, exported=exported, content_of=EXPORTED, change=0, added=0, removed=0)


def copy_code(repository: Path, folder: Path) -> None:
    """Give a version the model's code of now. A copy: the code of the exported version may be edited."""
    discard(folder / CODE)
    shutil.copyfile(repository / MODEL / str(EXPORTED) / CODE, folder / CODE)


def copy_tree(source: Path, target: Path) -> None:
    """A folder's files, linked, without what Python compiled among them."""
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    shutil.copytree(source, target, copy_function=lambda made, name: link(Path(made), Path(name)), ignore=ignored)
