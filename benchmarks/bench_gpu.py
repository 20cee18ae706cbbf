"""How well Cairn uses a GPU, in under ten minutes: training, embedding, searching, FP16.

    python benchmarks/bench_gpu.py [--only train embed faiss parity] [--backbones resnet50 ...] [--into FOLDER]
    python benchmarks/bench_gpu.py --device cpu --quick

train: steps on images that lie on the device, in FP32 as timm has the network (with TF32 where torch uses it), in bf16,
laid out as Cairn does, and compiled; then Cairn's own loop and loader over photos in shards, against these and against
a plain loop of timm and PyTorch over the same photos in files, and how long it waits for photos.
embed: `cairn.embedding` against the forward pass alone and a plain loop; what threads and processes decode.
faiss: exact search on the GPU against the CPU and against the index that Cairn would build; needs a FAISS for GPUs.
parity: FP32 on the CPU against FP16 on the device.

Networks are untrained, which take as long, and photos made ones, as large as those of cleaned shards. Each figure is
measured for --seconds when it is warm, and has its ratios to others of the same run. Without a GPU it says what is
missing, with status 2; --device cpu --quick runs the same code on a CPU, very small. Needs no more than torch,
torchvision, timm, pyarrow, Pillow, pydantic, ruamel.yaml, safetensors and tqdm; only `faiss` needs FAISS.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import timm
import torch
from gpu_measured import Book, Page, Settings, say
from measured import cores
from photos_made import contents

from cairn.allocation import keep_memory
from cairn.files import write_json
from cairn.locations import Location
from cairn.progress import progress
from cairn.shards import write_shards

BACKBONES = ("resnet50", "vit_small_patch16_224", "efficientnet_b1")
TRAIN, EMBED, FAISS, PARITY = SECTIONS = ("train", "embed", "faiss", "parity")
LIMIT_MINUTES = 9.0
COMPILING_S = 90.0  # a guess
QUICK: dict[str, Any] = {
    "backbones": ("test_resnet", "test_vit"),
    "seconds": 0.2,
    "batch": 4,
    "embed_batch": 8,
    "short_side": 64,
    "photos": 16,
    "vectors": 2500,
    "dimensions": 32,
    "queries": 40,
    "compiler": "aot_eager",
}
FULL: dict[str, Any] = {
    "backbones": BACKBONES,
    "seconds": 5.0,
    "batch": 128,
    "embed_batch": 256,
    "short_side": 256,
    "photos": 200,
    "vectors": 200_000,
    "dimensions": 512,
    "queries": 1000,
    "compiler": "inductor",
}
NO_GPU = (
    "no GPU: torch {version}, {built}, sees none, and nvidia-smi is {smi}.\n"
    "Run this on a machine with a GPU, its driver and a torch built for it; or the same code here, very small:\n"
    "  python benchmarks/bench_gpu.py --device cpu --quick"
)


class Photos(NamedTuple):
    """The same made photos: encoded, in shards and in files."""

    contents: list[bytes]
    places: list[Location]
    files: list[Path]


def made(folder: Path, settings: Settings) -> Photos:
    """Photos for all sections."""
    encoded = contents(None, settings.photos, settings.short_side)
    members = write_shards(((f"{at:08}.jpg", each) for at, each in enumerate(encoded)), folder / "shards", 64_000_000)
    places = [Location(folder / "shards", member.shard, member.offset, member.size) for member in members]
    files = [folder / f"{at:08}.jpg" for at in range(len(encoded))]
    for file, content in zip(files, encoded, strict=True):
        file.write_bytes(content)
    return Photos(encoded, places, files)


def importable_without_faiss() -> bool:
    """Whether FAISS is there. If not, an empty module stands for it: the training loop's module imports it for a
    sampler that is not used here.
    """
    there = importlib.util.find_spec("faiss") is not None
    if not there:
        sys.modules["faiss"] = ModuleType("faiss")
    return there


class Part(NamedTuple):
    """A piece of a section, which is left out where less than `needs_s` seconds remain."""

    section: str
    network: str
    what: str
    needs_s: float
    work: Callable[[Page], None]


def parts_of(settings: Settings, sections: Sequence[str], folder: Path) -> list[Part]:
    """What there is to measure, in order. Compiling takes longer than all else and comes last."""
    with_faiss = importable_without_faiss()
    import gpu_embedding
    import gpu_training

    photos, s = made(folder, settings), settings.seconds
    parts = [Part(PARITY, "", "TensorRT plan", 0, lambda page: gpu_embedding.plan(page, settings))]
    for name in settings.backbones:
        parts += [
            Part(PARITY, name, "cosines", s, lambda page: gpu_embedding.parity(page, settings, photos.contents)),
            Part(TRAIN, name, "bare steps", 5 * s, lambda page: gpu_training.bare(page, settings)),
            Part(TRAIN, name, "loops", 12 * s, lambda page: gpu_training.loops(page, settings, *photos[1:])),
            Part(EMBED, name, "embedding", 12 * s, lambda page: gpu_embedding.speed(page, settings, photos.places)),
        ]
    compiling = COMPILING_S if settings.compiler == "inductor" else 0
    parts += [
        Part(EMBED, name, "decoding", 8 * s, lambda page: gpu_embedding.decoding(page, settings, photos.places))
        for name in settings.backbones[:1]
    ]
    order = (PARITY, TRAIN, EMBED)
    parts.sort(key=lambda part: order.index(part.section))
    parts.append(Part(FAISS, "", "search", 12 * s, lambda page: searching(page, settings, folder, with_faiss)))
    parts += [
        Part(TRAIN, name, "compiled steps", compiling + 2 * s, lambda page: gpu_training.compiled(page, settings))
        for name in settings.backbones
    ]
    return [part for part in parts if part.section in sections]


def run(book: Book, parts: Sequence[Part], keep: Callable[[], None]) -> None:
    """Measure part by part; `keep` is called after each."""
    shown = ""
    for part in progress(parts, "bench", unit="part"):
        if part.section != shown:
            shown = part.section
            say(f"\n{shown}")
        page = Page(book, part.section, part.network)
        if page.time_for(part.what, part.needs_s):
            part.work(page)
        keep()


def searching(page: Page, settings: Settings, folder: Path, with_faiss: bool) -> None:
    """The section `faiss`, where it can be run."""
    if not with_faiss:
        page.leave("search", "FAISS is not installed; faiss-gpu needs CUDA 12 libraries beside torch's")
        return
    import gpu_search

    if settings.device.type == "cuda" and gpu_search.faiss.get_num_gpus() == 0:
        page.leave("search", "the installed FAISS has no GPU support (faiss.get_num_gpus() is 0); install faiss-gpu")
        return
    gpu_search.speed(page, settings, folder)


def no_gpu() -> str:
    """What this machine lacks."""
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    smi = "there: does the driver suit that CUDA?" if shutil.which("nvidia-smi") else "not there: no driver"
    return NO_GPU.format(version=torch.__version__, built=built, smi=smi)


def machine(device: torch.device) -> dict[str, Any]:
    """What it ran on."""
    found: dict[str, Any] = {"device": "CPU", "cores": cores(), "python": platform.python_version()}
    found |= {"torch": torch.__version__, "timm": timm.__version__, "cuda": torch.version.cuda}
    if device.type == "cuda":
        about = torch.cuda.get_device_properties(device)
        found |= {"device": about.name, "memory_gb": about.total_memory / 1e9}
    return found


def parser() -> argparse.ArgumentParser:
    """The command line. What is not given is as in FULL, or QUICK."""
    parsing = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parsing.add_argument
    add("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="these sections")
    add("--backbones", nargs="+", metavar="NAME", help=f"any that timm knows; {' '.join(BACKBONES)}")
    add("--seconds", type=float, help=f"of each measurement; {FULL['seconds']:g}")
    add("--batch", type=int, help=f"photos of a training step; {FULL['batch']}")
    add("--vectors", type=int, help=f"to search; {FULL['vectors']}")
    add("--compiler", help=f"backend of torch.compile; {FULL['compiler']}")
    add("--cores", type=int, default=cores(), help="threads and worker processes that decode; all cores")
    add("--device", choices=("cuda", "cpu"), default="cuda")
    add("--quick", action="store_true", help="very small, to see that all of it runs")
    add(
        "--limit", type=float, default=LIMIT_MINUTES, metavar="MINUTES", help="nothing long begins that would end later"
    )
    add("--into", type=Path, help="folder for gpu.json")
    return parsing


def main() -> int:
    """Measure and print. Status 2 if there is no GPU and --device is not cpu."""
    arguments = parser().parse_args()
    begin = time.monotonic()
    if arguments.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Cairn takes a GPU where it sees one
    elif not torch.cuda.is_available():
        print(no_gpu(), file=sys.stderr)
        return 2
    keep_memory()  # as training and embedding do
    torch.set_num_threads(arguments.cores)
    sizes = QUICK if arguments.quick else FULL
    given = {name: vars(arguments).get(name) for name in sizes}
    chosen = sizes | {name: value for name, value in given.items() if value is not None}
    chosen["backbones"] = tuple(chosen["backbones"])
    settings = Settings(device=torch.device(arguments.device), cores=arguments.cores, **chosen)
    about = machine(settings.device)
    print(", ".join(f"{name} {value}" for name, value in about.items()), flush=True)
    book = Book(begin + 60 * arguments.limit)

    def keep() -> None:
        if arguments.into is not None:
            parts = {
                name: [entry._asdict() for entry in getattr(book, name)] for name in ("figures", "left_out", "notes")
            }
            sizes = {name: value for name, value in vars(settings).items() if name != "device"}
            write_json(arguments.into / "gpu.json", {"machine": about, "settings": sizes, **parts})

    with tempfile.TemporaryDirectory(prefix="cairn-bench-gpu-") as folder:
        run(book, parts_of(settings, arguments.only, Path(folder)), keep)
    print(f"\n{time.monotonic() - begin:.0f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
