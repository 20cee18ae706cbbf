"""Build the TensorRT plan of the exported network on this machine's GPU, check it on photos, place it for the server.

Run it in a container with the server's TensorRT; it needs neither DVC nor the training data.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cairn.answering.preprocess import Preprocessing, pixels
from cairn.client.given import found_in
from cairn.export.tensorrt import key_here, make_plan, readiness, tensorrt_maker
from cairn.manifest import read_images
from cairn.photos import DecodeError
from cairn.serving.plans import RECIPE_FILE, PlanError, PlanRecipe, read_written
from cairn.serving.preparing import preprocessing_of
from cairn.shards import ShardReader

WAY_OUT = "run `make repro`, which exports it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line of `cairn plan`."""
    export, build = Path("build") / "export", Path("build")
    parser.add_argument(
        "--onnx", type=Path, default=export / "embedder.fp16.onnx", help="FP16 ONNX file (default: %(default)s)"
    )
    parser.add_argument(
        "--recipe", type=Path, default=export / RECIPE_FILE, help="how to build it (default: %(default)s)"
    )
    parser.add_argument(
        "--photos",
        type=Path,
        default=build / "clean",
        metavar="FOLDER",
        help="photos to check it with: image files, or a folder with images.parquet and shards (default: %(default)s)",
    )
    parser.add_argument(
        "--repository", type=Path, default=Path("triton_repo"), help="where to place it (default: %(default)s)"
    )
    parser.add_argument(
        "--plans", type=Path, default=build / "plans", help="where plans and timings are kept (default: %(default)s)"
    )
    parser.add_argument("--check", action="store_true", help="only say whether a plan can be built here")


def run(args: argparse.Namespace) -> int:
    """Status 0: placed, or possible; 1: built, but not fit to be placed, or not buildable; 2: cannot be tried here."""
    here = readiness()
    if not here.ready or args.check:
        print(f"a plan can{'' if here.ready else 'not'} be built here: {here.reason}", file=sys.stderr)
        return 0 if here.ready else 2
    try:
        return _make(args)
    except (PlanError, OSError, ValueError) as error:
        print(f"cairn plan: {error}", file=sys.stderr)
        return 1


def _make(args: argparse.Namespace) -> int:
    recipe = read_written(args.recipe, PlanRecipe, WAY_OUT)
    if not args.onnx.is_file():
        raise PlanError(f"{args.onnx}: no such file; {WAY_OUT}")
    how = preprocessing_of(args.repository / "preprocess" / "1")
    images = network_inputs(args.photos, how, recipe.parity_photos)
    threads = len(os.sched_getaffinity(0))
    model = args.repository / "embed" / "1"
    made = make_plan(tensorrt_maker(), key_here(args.onnx), args.onnx, recipe, images, args.plans, model, threads)
    print(
        f"placed {made.key.name}: least cosine {made.least_cosine:.6f} on {made.parity_photos} photos, for batches of "
        f"1 to {made.settings.max_batch}. Start the server anew with --embedder tensorrt"
    )
    return 0


def network_inputs(folder: Path, preprocessing: Preprocessing, at_most: int) -> NDArray[np.uint8]:
    """Inputs uint8 [photos, size, size, 3] of the first photos of a folder that can be decoded.

    Raises PlanError if there is none.
    """
    rows = list(islice(_prepared(folder, preprocessing), at_most))
    if not rows:
        raise PlanError(f"{folder}: no photos there; name a folder with some: --photos")
    return np.stack(rows)


def _prepared(folder: Path, preprocessing: Preprocessing) -> Iterator[NDArray[np.uint8]]:
    for content in _contents(folder):
        try:
            yield pixels(content, preprocessing)
        except DecodeError:
            continue  # broken photos are of no use here; the server tells about them


def _contents(folder: Path) -> Iterator[bytes]:
    if (folder / "images.parquet").exists():
        with ShardReader(folder) as reader:
            for row in read_images(folder).to_pylist():
                yield reader.read(row["shard"], row["offset"], row["size"])
    else:
        yield from (path.read_bytes() for path in found_in(folder) if path.is_file())
