"""Draws docs/pictures/page.jpg from the last run on the embedded data: `python docs/pictures/draw_page.py`.

`cairn page` in a real Chromium (Debian: apt-get install chromium), asked about the test photo with the most matches.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from cairn.client import Client, PhotoError, Verified
from cairn.manifest import read_images
from cairn.params import load_params
from cairn.serving.server import LOOPBACK, ROOT, default_server_env, free_ports, running_server
from cairn.shards import ShardReader
from cairn.sides import read_sides
from cairn.stage import CLEAN, PARAMS, RAW

LOOKED_AT = 60  # photos of the test side
WIDTH, SCALE = 1000, 1.25
SETTLED_MS = 2000  # the bar on top, that shows loading, is gone then


def main() -> None:
    """Draw the picture beside this file."""
    if load_params(PARAMS).fetch.source != "synthetic":
        raise SystemExit("docs show photos of the embedded data alone; set fetch.source to synthetic")
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("no Chromium to draw with; on Debian: apt-get install chromium")
    with running_server(ROOT / "triton_repo", default_server_env(), photos=CLEAN) as server:
        name, content = best_matched(server)
        with served(server) as url, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": WIDTH, "height": 700}, device_scale_factor=SCALE)
            page.goto(url)
            chosen = {"name": name, "mimeType": "image/jpeg", "buffer": content}
            page.locator("input[type=file]").set_input_files(chosen)  # type: ignore[arg-type]
            page.locator("svg.matches").wait_for()
            page.wait_for_timeout(SETTLED_MS)
            picture = page.locator(".page").screenshot(animations="disabled")
            browser.close()
    Image.open(io.BytesIO(picture)).convert("RGB").save(Path(__file__).with_name("page.jpg"), quality=88)


def best_matched(server: str) -> tuple[str, bytes]:
    """Of the test side's first photos that were answered, the one with the most matches: its name and bytes."""
    sides = read_sides()
    ids = sides.images["image_id"].take(sides.rows("test")[:LOOKED_AT]).to_pylist()
    rows = {row["image_id"]: row for row in read_images(RAW).to_pylist()}
    with ShardReader(RAW) as reader:
        photos = [reader.read(*(rows[image_id][part] for part in ("shard", "offset", "size"))) for image_id in ids]
    with Client(server, 300.0) as client:
        outcomes = list(client.verify_stream(photos))
    scores = [matches_of(outcome, rows[image_id]) for outcome, image_id in zip(outcomes, ids, strict=True)]
    best = scores.index(max(scores))
    return Path(rows[ids[best]]["source_name"]).name, photos[best]


def matches_of(outcome: Verified | PhotoError, row: dict[str, object]) -> int:
    """How many points of its nearest photos match; -1 where the answer is not right."""
    if isinstance(outcome, PhotoError) or outcome.answer.landmark_id != row["landmark_id"]:
        return -1
    return sum(number or 0 for number in outcome.inliers)


@contextmanager
def served(server: str) -> Iterator[str]:
    """The page's address, while `cairn page` runs."""
    port = free_ports().http
    command = [sys.executable, "-m", "cairn.client.main", "page", "--server", server, "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield f"http://{LOOPBACK}:{port}"
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    main()
