"""Your own photos as a source: a folder per landmark, and a folder of photos that show none."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from cairn.manifest import LANDMARKS, image_id_of
from cairn.names import as_compared
from cairn.params import FolderParams
from cairn.progress import progress
from cairn.sources.base import Fetched, Photo, SourceError, pack, plain

NOT_PHOTOS = frozenset(
    {".txt", ".md", ".rst", ".json", ".jsonl", ".csv", ".tsv", ".xml", ".xmp", ".yaml", ".yml", ".html", ".htm", ".pdf"}
    | {".ini", ".log", ".db", ".sqlite", ".parquet", ".npy", ".npz", ".pkl", ".py", ".ipynb", ".sh", ".md5", ".sha256"}
    | {".mov", ".mp4", ".m4v", ".avi", ".mkv", ".webm", ".3gp", ".mpg", ".mts", ".mp3", ".m4a", ".wav", ".aae", ".thm"}
    | {".zip", ".tar", ".gz", ".rar", ".7z", ".doc", ".docx", ".gpx", ".kml"}
)
NOT_PHOTO_NAMES = frozenset({"thumbs.db", ".ds_store", "desktop.ini", "license", "licence", "readme"})
NOT_LANDMARKS = frozenset({"__MACOSX", "@eaDir"})  # folders that unpackers and network stores leave behind

MAX_SHOWN = 200  # characters of a path that is none
MAX_BYTES = 1_000_000_000  # of a file that may be a photo: it is read whole

LAYOUT = "put each landmark's photos into a folder of its own, as <landmarks>/Eiffel_Tower/photo.jpg"


class _Found(NamedTuple):
    """A photo file and whose it is; `landmark_id` is none for a distractor."""

    path: Path
    source_name: str
    landmark_id: int | None


class FolderSource:
    """Photos of a folder tree, known by their path in it: renaming a file makes it another photo."""

    def __init__(self, params: FolderParams, shard_mb: float) -> None:
        self.params, self.shard_mb = params, shard_mb

    def fetch(self, out: Path, keep: Path) -> Fetched:
        """Pack every photo of the trees into tar shards below `out`, landmarks first, ordered by path.

        A landmark's id is the position of its folder among the sorted top folders. Nothing is decoded: broken and empty
        files are packed too. Files whose ending no image has, hidden files, files over MAX_BYTES, and links that lead
        out of the tree or to a folder are left out and counted. `keep` is not used: there is nothing to resume.

        Raises SourceError if a param names no folder, if there is no landmark folder with a photo, if a file cannot be
        read, or if two files or two landmarks go by one name.
        """
        counts: Counter[str] = Counter()
        found, names = self._landmark_photos(counts)
        distractors = self._distractors(counts)
        _check_names(found + distractors)
        images = pack(_read(progress(found + distractors, "packing your photos")), out, self.shard_mb)
        shown = {photo.landmark_id for photo in found}
        rows = [{"landmark_id": i, "name": name, "category": None} for i, name in enumerate(names) if i in shown]
        facts = {
            "photos": len(found) + len(distractors),
            "landmark_photos": len(found),
            "distractors": len(distractors),
            "landmarks": len(rows),
            "empty_landmark_folders": len(names) - len(rows),
            "outside_any_landmark": counts["outside_any_landmark"],
            "not_photos": counts["not_photos"],
            "hidden": counts["hidden"],
            "too_large": counts["too_large"],
            "links_not_followed": counts["links_not_followed"],
        }
        return Fetched(images, pa.Table.from_pylist(rows, schema=LANDMARKS), facts)

    def _landmark_photos(self, counts: Counter[str]) -> tuple[list[_Found], list[str]]:
        """Photos of landmarks, and the landmarks' names by id."""
        root = _folder(self.params.landmarks, "fetch.folder.landmarks", LAYOUT)
        folders, loose = _top_level(root, counts)
        if not folders:
            state = "photos, but no landmark folders" if loose else "no landmark folders"
            raise SourceError(
                f"fetch.folder.landmarks = {self.params.landmarks}: holds {state}{_left(counts)}; {LAYOUT}"
            )
        counts["outside_any_landmark"] += loose
        found = [
            _Found(path, _source_name("landmarks", path, root), number)
            for number, folder in enumerate(folders)
            for path in _photo_files(folder, root, counts)
        ]
        if not found:
            raise SourceError(
                f"fetch.folder.landmarks = {self.params.landmarks}: no photo in any of its {len(folders)} folders "
                f"({loose} beside them){_left(counts)}; {LAYOUT}"
            )
        names = [_clean_name(folder) for folder in folders]
        _check_alike(folders, names)
        return found, names

    def _distractors(self, counts: Counter[str]) -> list[_Found]:
        if self.params.distractors is None:
            return []
        param = "fetch.folder.distractors"
        root = _folder(self.params.distractors, param, "null leaves distractors out")
        landmarks = _folder(self.params.landmarks, "fetch.folder.landmarks", LAYOUT)
        if root.is_relative_to(landmarks) or landmarks.is_relative_to(root):
            raise SourceError(
                f"{param} = {self.params.distractors}: it and fetch.folder.landmarks = {self.params.landmarks} lie in "
                "one another, so that photos would count as both; move them apart"
            )
        return [
            _Found(path, _source_name("distractors", path, root), None) for path in _photo_files(root, root, counts)
        ]


def _folder(path: Path | None, param: str, way_out: str) -> Path:
    if path is None:
        raise SourceError(f"{param} is null; set it to a folder: {way_out}")
    try:
        there = path.exists()
    except OSError as error:
        raise SourceError(
            f"{param} = {str(path)[:MAX_SHOWN]}: cannot be opened ({error.strerror}); {way_out}"
        ) from error
    if not there:
        raise SourceError(f"{param} = {path}: no such folder (a relative path starts at the project's root); {way_out}")
    if not path.is_dir():
        raise SourceError(f"{param} = {path}: a file, not a folder; {way_out}")
    return path.resolve()


def _top_level(root: Path, counts: Counter[str]) -> tuple[list[Path], int]:
    """The landmark folders in order, and the number of photos that lie beside them."""
    folders, loose = [], 0
    for entry in _entries(root, root, counts):
        if entry.is_dir():
            folders.append(Path(entry.path))
        elif _is_photo(entry, counts):
            loose += 1
    return folders, loose


def _photo_files(folder: Path, root: Path, counts: Counter[str]) -> Iterator[Path]:
    """Files at any depth that may be photos, in an order that depends on names alone; the others are counted."""
    left = _entries(folder, root, counts)[::-1]
    while left:
        entry = left.pop()
        if entry.is_dir():
            left += _entries(Path(entry.path), root, counts)[::-1]
        elif _is_photo(entry, counts):
            yield Path(entry.path)


def _entries(folder: Path, root: Path, counts: Counter[str]) -> list[os.DirEntry[str]]:
    """What is in a folder, by name; links that are not followed and hidden folders are counted and left out."""
    kept = []
    for entry in _listed(folder):
        if _is_link_to_leave(entry, root):
            counts["links_not_followed"] += 1
        elif entry.is_dir() and _is_hidden_folder(entry.name):
            counts["hidden"] += 1
        else:
            kept.append(entry)
    return kept


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        raise SourceError(
            f"{plain(_shown(folder))}: cannot be listed ({error.strerror}); give read rights or move it"
        ) from error


def _is_link_to_leave(entry: os.DirEntry[str], root: Path) -> bool:
    """Whether an entry is a link that is not followed: out of the tree, broken, or to a folder (maybe a loop)."""
    if not entry.is_symlink():
        return False
    try:
        is_file = entry.is_file()
    except OSError:  # a link to itself, or to what may not be looked at
        return True
    return not is_file or not Path(entry.path).resolve().is_relative_to(root)


def _is_hidden_folder(name: str) -> bool:
    return name.startswith(".") or name in NOT_LANDMARKS


def _is_photo(entry: os.DirEntry[str], counts: Counter[str]) -> bool:
    name = entry.name.lower()
    if not entry.is_file() or name in NOT_PHOTO_NAMES or Path(name).suffix in NOT_PHOTOS:
        counts["not_photos"] += 1
        return False
    if name.startswith("."):
        counts["hidden"] += 1
        return False
    if _size(entry) > MAX_BYTES:
        counts["too_large"] += 1
        return False
    return True


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError as error:
        raise _unreadable(Path(entry.path), error) from error


def _unreadable(path: Path, error: OSError) -> SourceError:
    return SourceError(f"{plain(_shown(path))}: cannot be read ({error.strerror}); give read rights or move it away")


def _check_names(found: Iterable[_Found]) -> None:
    """Names that are not UTF-8 are written as they would be escaped, and another file may have that very name."""
    names: dict[str, Path] = {}
    for photo in found:
        other = names.setdefault(photo.source_name, photo.path)
        if other != photo.path:
            both = " and ".join(repr(os.fsencode(path)) for path in (other, photo.path))
            raise SourceError(f"{both} are both called {photo.source_name!r} here; rename one")


def _left(counts: Counter[str]) -> str:
    """What was left out, for an error that finds nothing else: links in place of folders, say."""
    words = [f"{count} {what.replace('_', ' ')}" for what, count in sorted(counts.items()) if count]
    return f" ({', '.join(words)})" if words else ""


def _check_alike(folders: Sequence[Path], names: Sequence[str]) -> None:
    """Two landmarks of one name would be each other's rivals, and nobody could tell whose photo is added later."""
    known: dict[str, Path] = {}
    for folder, name in zip(folders, names, strict=True):
        compared = as_compared(name) or str(folder)  # of blanks alone: no name to be mistaken for
        other = known.setdefault(compared, folder)
        if other != folder:
            both = " and ".join(repr(_shown(Path(path.name))) for path in (other, folder))
            raise SourceError(
                f"fetch.folder.landmarks: the folders {both} both stand for a landmark called {name!r}; put their "
                "photos into one, or rename one"
            )


def _read(found: Iterable[_Found]) -> Iterator[Photo]:
    for photo in found:
        try:
            content = photo.path.read_bytes()
        except OSError as error:
            raise _unreadable(photo.path, error) from error
        yield Photo(image_id_of(photo.source_name), content, photo.landmark_id, photo.source_name)


def _source_name(kind: str, path: Path, root: Path) -> str:
    return f"{kind}/{_shown(path.relative_to(root))}"


def _shown(path: Path) -> str:
    r"""A path as text that every table can hold: bytes that are not UTF-8 become \x and two digits."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


def _clean_name(folder: Path) -> str:
    name = plain(_shown(Path(folder.name)))
    return name.replace("_", " ").strip() or name
