"""A small data set laid out like Google Landmarks v2, and a web server for it that misbehaves as told."""

from __future__ import annotations

import csv
import hashlib
import io
import re
import sys
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CATEGORIES = {
    7: "http://commons.wikimedia.org/wiki/Category:Tour_Eiffel_%28Paris%29",
    27: "http://commons.wikimedia.org/wiki/Category:Ch%C3%A2teau_de_Losse",
    203093: "http://commons.wikimedia.org/wiki/Category:AC/DC_Lane",
}
NAMES = {7: "Tour Eiffel (Paris)", 27: "Château de Losse", 203093: "AC/DC Lane"}
NAMELESS = 555  # a landmark of train that no category file tells about
LICENCE = "https://creativecommons.org/licenses/by-sa/3.0"


@dataclass
class Layout:
    """What was written. `photos`: split -> shard number -> id -> bytes; `labels`: split -> id -> landmark (or none)."""

    root: Path
    photos: dict[str, dict[int, dict[str, bytes]]] = field(default_factory=dict)
    labels: dict[str, dict[str, int | None]] = field(default_factory=dict)
    clean: set[str] = field(default_factory=set)
    authors: dict[str, str] = field(default_factory=dict)

    def content(self, split: str, shards: range) -> dict[str, bytes]:
        return {key: value for number in shards for key, value in self.photos[split][number].items()}


def write_layout(root: Path, shards: int = 3, per_shard: int = 6, with_url: bool = True, seed: int = 0) -> Layout:
    """Write `shards` tars of noisy JPEGs for train and index, one for test, with all CSV files and md5 sums.

    In each train shard the first photo is in no label file; one listed image is in no shard.
    """
    rng = np.random.default_rng(seed)
    layout = Layout(root)
    for split, count in (("train", shards), ("index", shards), ("test", 1)):
        layout.photos[split] = {}
        for number in range(count):
            photos = {rng.bytes(8).hex(): _photo(rng) for _ in range(per_shard)}
            layout.photos[split][number] = photos
            _write_tar(root / split / f"images_{number:03d}.tar", photos)
            write_md5(root, split, number)
    _write_train(layout, with_url)
    _write_index(layout)
    _write_test(layout)
    return layout


def write_md5(root: Path, split: str, number: int) -> None:
    name = f"images_{number:03d}"
    digest = hashlib.md5((root / split / f"{name}.tar").read_bytes()).hexdigest()
    path = root / "md5sum" / split / f"md5.{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{digest}  {name}.tar\n")


def _photo(rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def _write_tar(path: Path, photos: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for key, content in photos.items():
            folder = tarfile.TarInfo(f"{key[0]}/{key[1]}/{key[2]}")
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
            header = tarfile.TarInfo(f"{key[0]}/{key[1]}/{key[2]}/{key}.jpg")
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))


def write_csv(path: Path, header: str, rows: list[list[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([header.split(","), *rows])


def _write_train(layout: Layout, with_url: bool) -> None:
    metadata = layout.root / "metadata"
    ids = [key for photos in layout.photos["train"].values() for key in list(photos)[1:]] + ["f" * 16]
    landmarks = [*CATEGORIES, NAMELESS]
    labels = {key: landmarks[i % len(landmarks)] for i, key in enumerate(ids)}
    layout.labels["train"] = dict(labels)
    layout.clean = {key for key, landmark in labels.items() if landmark in (7, 27)}
    layout.authors = {key: f'Zoë "Z", {i}' if i % 3 else "" for i, key in enumerate(ids)}
    url = "http://static.example/{}.jpg"
    if with_url:
        write_csv(metadata / "train.csv", "id,url,landmark_id", [[k, url.format(k), v] for k, v in labels.items()])
    else:
        write_csv(metadata / "train.csv", "id,landmark_id", [[k, v] for k, v in labels.items()])
    groups = [[v, " ".join(k for k in ids if labels[k] == v)] for v in (7, 27)]
    write_csv(metadata / "train_clean.csv", "landmark_id,images", groups)
    rows = [[k, url.format(k), layout.authors[k], LICENCE, f"File:A title,\nof two lines {k}.jpg"] for k in ids]
    write_csv(metadata / "train_attribution.csv", "id,url,author,license,title", rows)
    categories = [[k, v] for k, v in CATEGORIES.items()]
    write_csv(metadata / "train_label_to_category.csv", "landmark_id,category", categories)


def _write_index(layout: Layout) -> None:
    metadata = layout.root / "metadata"
    ids = [key for photos in layout.photos["index"].values() for key in photos]
    labels: dict[str, int | None] = {key: (7, 27)[i % 2] for i, key in enumerate(ids)}
    layout.labels["index"] = labels
    write_csv(metadata / "index.csv", "id", [[key] for key in ids])
    write_csv(metadata / "index_image_to_landmark.csv", "id,landmark_id", [[k, v] for k, v in labels.items()])
    categories = [[7, "http://commons.wikimedia.org/wiki/Category:Another_seven"], [27, CATEGORIES[27]]]
    write_csv(metadata / "index_label_to_category.csv", "landmark_id,category", categories)


def _write_test(layout: Layout) -> None:
    ids = list(layout.photos["test"][0])
    write_csv(layout.root / "metadata" / "test.csv", "id", [[key] for key in ids])
    truth = ["7 27", "", "203093", "", "27"]
    rows = [
        [key, text, "Private" if i % 2 else "Public"] for i, (key, text) in enumerate(zip(ids, truth, strict=False))
    ]
    layout.labels["test"] = dict(zip(ids, [7, None, 203093, None, 27], strict=False))
    ignored = [[key, "7", "Ignored"] for key in ids[len(truth) :]]
    path = layout.root / "ground_truth" / "recognition_solution_v2.1.csv"
    write_csv(path, "id,landmarks,Usage", rows + ignored)


@dataclass
class Manners:
    """How the server behaves, by path below its root; counts go down as they are used up."""

    cut_after: dict[str, int] = field(default_factory=dict)  # bytes of a body after which the connection is cut ...
    cuts: Counter[str] = field(default_factory=Counter)  # ... so many times
    unavailable: Counter[str] = field(default_factory=Counter)  # 503 so many times ...
    retry_after: str = "0"  # ... with this to say when to come again
    corrupt: Counter[str] = field(default_factory=Counter)  # a byte is wrong so many times
    stalls: Counter[str] = field(default_factory=Counter)  # nothing comes after half the body so many times
    ignore_range: bool = False
    ignore_if_range: bool = False
    headers: dict[str, dict[str, str]] = field(default_factory=dict)  # said instead of the right ones
    redirects: dict[str, str] = field(default_factory=dict)  # to another path, by an answer whose body does not come
    requests: Counter[str] = field(default_factory=Counter)
    ranges: list[tuple[str, str | None]] = field(default_factory=list)  # path and its Range header, in order
    sent: Counter[str] = field(default_factory=Counter)  # bytes of bodies
    lock: threading.Lock = field(default_factory=threading.Lock)
    closing: threading.Event = field(default_factory=threading.Event)

    def use(self, left: Counter[str], path: str) -> bool:
        with self.lock:
            left[path] -= 1
            return left[path] >= 0


@contextmanager
def serve(root: Path, port: int = 0) -> Iterator[tuple[str, Manners]]:
    """Serve `root` on this machine, on a free port if none is given; gives the address and the manners.

    The manners may be changed any time.
    """
    manners = Manners()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            _answer(self, root, manners)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that hangs up is what some tests are about; anything else is printed."""
            if not isinstance(sys.exception(), ConnectionError):
                super().handle_error(request, client_address)

    server = Server(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", manners
    finally:
        manners.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(handler: BaseHTTPRequestHandler, root: Path, manners: Manners) -> None:
    path = handler.path.lstrip("/")
    wanted = handler.headers.get("Range")
    with manners.lock:
        manners.requests[path] += 1
        manners.ranges.append((path, wanted))
    if manners.use(manners.unavailable, path):
        return _head(handler, 503, {"Content-Length": "0", "Retry-After": manners.retry_after})
    if path in manners.redirects:
        _head(handler, 302, {"Location": f"/{manners.redirects[path]}", "Content-Length": "1000000"})
        manners.closing.wait(20)
        handler.close_connection = True
        return None
    if not (root / path).is_file():
        return _head(handler, 404, {"Content-Length": "0"})
    body = (root / path).read_bytes()
    tag = f'"{hashlib.md5(body).hexdigest()}"'
    if manners.use(manners.corrupt, path):
        body = body[:-1] + bytes([body[-1] ^ 1])
    headers, status, start = {"ETag": tag}, 200, 0
    if wanted and not manners.ignore_range and (manners.ignore_if_range or handler.headers.get("If-Range", tag) == tag):
        found = re.fullmatch(r"bytes=(\d+)-", wanted)
        start = int(found[1]) if found else 0
        if start >= len(body):
            return _head(handler, 416, {"Content-Range": f"bytes */{len(body)}", "Content-Length": "0"})
        status = 206
        headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
    part = body[start:]
    _head(handler, status, headers | {"Content-Length": str(len(part))} | manners.headers.get(path, {}))
    stalled = manners.use(manners.stalls, path)
    if stalled:
        part = part[: len(part) // 2]
    elif path in manners.cut_after and manners.use(manners.cuts, path):
        part = part[: manners.cut_after[path]]
        handler.close_connection = True
    with manners.lock:
        manners.sent[path] += len(part)
    handler.wfile.write(part)
    if stalled:
        manners.closing.wait(20)
        handler.close_connection = True


def _head(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
