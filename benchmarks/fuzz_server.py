"""A real server under requests that are wrong in every way: does it live, answer right in between, and keep its memory?

    python benchmarks/fuzz_server.py [--requests 10000] [--warm-up 10000] [--seed 0] [--photos build/clean]

Photos of every format with bytes flipped, cut off or spliced; tensors of wrong names, types, shapes and lengths; gRPC
messages that are none. A request of a seed and number is always the same one. Exits with 1 if a good photo was answered
otherwise than before, a process was replaced, a status came that no request should get, or without a reason, or memory
grew by over 2 %.
"""

from __future__ import annotations

import argparse
import io
import re
import struct
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import grpc
import numpy as np
from PIL import Image
from tritonclient.grpc import service_pb2

from cairn.client import Answer, Client
from cairn.client.wire import MOST_CHECKED, VERIFY
from cairn.manifest import as_image_id
from cairn.progress import progress
from cairn.retrieval.entries import ENTRIES_FILE, Entries
from cairn.serving.command import LOOPBACK
from cairn.serving.runtime import newest_version
from cairn.serving.server import Server, default_photos, default_server_env, free_ports, started
from cairn.serving.watchdog import stubs

ROOT = Path(__file__).parents[1]
INFER = "/inference.GRPCInferenceService/ModelInfer"
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF")
ROUND = 100  # requests between two looks at the server
MOST_GROWTH = 0.02  # of memory, after the warm-up
WINDOW = 10  # looks whose median is compared: memory goes up and down by a hundredth
AT_ONCE = 8
TIMEOUT_S = 120.0
INTERESTING = (
    b"\0\0",
    b"\xff\xff",
    b"\x7f\xff",
    b"\x80\0",
    b"\0\1",
    b"\xff\xd8",
    b"\xff\xda",
    b"\0\0\0\0",
    b"\xff" * 4,
)
# A photo is answered or refused; whatever else a request is, the server must not be away, at a loss or too slow.
OF_PHOTOS = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}
NEVER = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED}

Random = np.random.Generator


class Wrong(NamedTuple):
    """A request as it goes over the wire, and the statuses it may get (none: any but NEVER)."""

    kind: str
    message: bytes
    allowed: set[grpc.StatusCode] | None


def corpus(rng: Random) -> list[bytes]:
    """Photos of every format, in several modes and ways of compressing."""
    smooth = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((160, 120))
    noisy = Image.fromarray(rng.integers(0, 256, (50, 70, 3), dtype=np.uint8))
    ways: list[tuple[Image.Image, str, dict[str, object]]] = [(smooth, kind, {}) for kind in FORMATS]
    ways += [
        (noisy, "JPEG", {"progressive": True, "exif": _exif(6)}),
        (smooth.convert("CMYK"), "JPEG", {}),
        (smooth.convert("L"), "JPEG", {}),
        (smooth.quantize(64), "PNG", {"transparency": 3}),
        (smooth.convert("RGBA"), "PNG", {"dpi": (300, 300)}),
        (Image.fromarray(rng.integers(0, 65536, (40, 40), dtype=np.uint16)), "PNG", {}),
        (smooth.convert("RGBA"), "WEBP", {"lossless": True}),
        (smooth, "WEBP", {"save_all": True, "append_images": [noisy.resize(smooth.size)]}),
        (smooth, "GIF", {"save_all": True, "append_images": [noisy.resize(smooth.size)], "disposal": 2}),
        *((smooth, "TIFF", {"compression": way}) for way in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")),
        (smooth.convert("1"), "TIFF", {"compression": "group4"}),
        (smooth.convert("1"), "PPM", {}),
        (smooth, "MPO", {"save_all": True, "append_images": [noisy]}),
    ]
    return [_encoded(*way) for way in ways]


def _encoded(image: Image.Image, kind: str, options: dict[str, object]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def mutated(content: bytes, other: bytes, rng: Random) -> bytes:
    """`content` with one to four changes; `other` is what it may be spliced with."""
    for _ in range(rng.integers(1, 5)):
        if not content:
            return content
        # Half of the changes are where headers stand.
        at = int(rng.integers(len(content) if rng.random() < 0.5 else min(len(content), 100)))
        change = rng.integers(6)
        if change == 0:
            content = content[:at] + bytes([content[at] ^ 1 << int(rng.integers(8))]) + content[at + 1 :]
        elif change == 1:
            piece = INTERESTING[int(rng.integers(len(INTERESTING)))]
            content = content[:at] + piece + content[at + len(piece) :]
        elif change == 2:
            content = content[: max(at, 1)]
        elif change == 3:
            content = content[:at] + other[int(rng.integers(len(other))) :]
        elif change == 4:
            content = content[:at] + content[at + int(rng.integers(1, 200)) :]
        else:
            content = content[:at] + rng.bytes(int(rng.integers(1, 50))) + content[at:]
    return content


def packed(photos: Sequence[bytes]) -> bytes:
    """BYTES as gRPC carries them."""
    return b"".join(struct.pack("<I", len(photo)) + photo for photo in photos)


def request(model: str, name: str, datatype: str, shape: Sequence[int], raw: bytes) -> service_pb2.ModelInferRequest:
    """A request of one input."""
    made = service_pb2.ModelInferRequest(model_name=model, id="fuzz")
    made.inputs.add(name=name, datatype=datatype, shape=shape)
    made.raw_input_contents.append(raw)
    return made


def wrong(number: int, seed: int, photos: list[bytes], models: set[str]) -> Wrong:
    """Request `number` of a seed."""
    rng = np.random.default_rng([seed, number])
    kind = rng.choice(["photo", "photos", "tensor", "message", "other"], p=[0.6, 0.1, 0.15, 0.05, 0.1])
    first, second = (photos[int(i)] for i in rng.integers(len(photos), size=2))
    if kind == "photo":
        model = str(rng.choice(["landmark", "preprocess", *sorted(models & {"verify"})]))
        shape = [1] if model == "verify" else [1, 1]
        made = request(model, "photo", "BYTES", shape, packed([mutated(first, second, rng)]))
        return Wrong(f"photo to {model}", made.SerializeToString(), OF_PHOTOS)
    if kind == "photos":
        count = int(rng.integers(2, 9))
        batch = [mutated(first, second, rng) if rng.random() < 0.7 else second for _ in range(count)]
        made = request("landmark", "photo", "BYTES", [count, 1], packed(batch))
        return Wrong("several photos", made.SerializeToString(), OF_PHOTOS)
    if kind == "tensor":
        return Wrong("tensor", _wrong_tensor(first, rng).SerializeToString(), None)
    if kind == "message":
        whole = request("landmark", "photo", "BYTES", [1, 1], packed([first])).SerializeToString()
        return Wrong("message", mutated(whole, packed([second]), rng), None)
    return Wrong("other models", _other_model(rng, models).SerializeToString(), None)


def _wrong_tensor(photo: bytes, rng: Random) -> service_pb2.ModelInferRequest:
    """A photo in a tensor of another name, type, shape, length or place."""
    raw = packed([photo])
    shapes = ([], [1], [1, 2], [2, 1], [1, 1, 1], [0, 1], [-1, 1], [1, -1], [65, 1], [2**40, 1], [1, 2**62])
    types = ("UINT8", "FP32", "INT64", "BOOL", "", "BYTE", "x" * 1000)
    lengths = (b"", raw[:3], raw + b"\0", raw * 2, struct.pack("<I", 2**32 - 1) + photo, struct.pack("<I", 0) * 3)
    made = request("landmark", "photo", "BYTES", [1, 1], raw)
    tensor = made.inputs[0]
    change = rng.integers(8)
    if change == 0:
        del tensor.shape[:]
        tensor.shape.extend(shapes[int(rng.integers(len(shapes)))])
    elif change == 1:
        tensor.datatype = types[int(rng.integers(len(types)))]
    elif change == 2:
        made.raw_input_contents[0] = lengths[int(rng.integers(len(lengths)))]
    elif change == 3:
        tensor.name = ("", "image", "photo\0", "x" * 10_000)[int(rng.integers(4))]
    elif change == 4:
        made.model_version = ("99", "-1", "latest", "1" * 100)[int(rng.integers(4))]
    elif change == 5:
        del made.raw_input_contents[:]
        tensor.contents.bytes_contents.extend([photo] * int(rng.integers(3)))
    elif change == 6:
        made.outputs.add(name=("landmark_id", "nothing", "")[int(rng.integers(3))])
    else:
        tensor.parameters["shared_memory_region"].string_param = "region"
        tensor.parameters["shared_memory_byte_size"].int64_param = int(rng.integers(-(2**31), 2**31))
    return made


def _other_model(rng: Random, models: set[str]) -> service_pb2.ModelInferRequest:
    """Numbers that are no embedding, images that are none, ids of no photo, parameters out of range."""
    odd = np.array([0, 1, np.nan, np.inf, -np.inf, 1e38, -1e-38], dtype=np.float32)
    model = str(rng.choice(sorted(models & {"embed", "retrieve", "photo", "verify"})))
    if model == "photo":
        image_id = rng.bytes(int(rng.integers(20))) if rng.random() < 0.5 else f"{rng.integers(2**63):016x}".encode()
        return request(model, "image_id", "BYTES", [1, 1], packed([image_id]))
    if model == "verify":
        made = request(model, "photo", "BYTES", [1], packed([b"no photo"]))
        made.parameters["check"].int64_param = int(rng.integers(-(2**62), 2**62))
        return made
    rows = int(rng.integers(1, 4))
    if model == "embed":
        height, width = rng.choice([1, 16, 48, 64, 224, 300], size=2).tolist()
        pixels = rng.integers(0, 256, rows * height * width * 3, dtype=np.uint8)
        return request(model, "image", "UINT8", [rows, height, width, 3], pixels.tobytes())
    shape = [rows, int(rng.integers(1, 600))]
    return request(model, "embedding", "FP32", shape, rng.choice(odd, size=shape).tobytes())


def processes(server: Server) -> dict[int, str]:
    """The server's process and those that run its Python models, and what they run."""
    return {server.process.pid: "server", **stubs(server.process.pid)}


def memory(running: Mapping[int, str]) -> dict[str, float]:
    """MB that processes hold of their own, by what they run: neither files nor libraries, which others may share."""
    held: dict[str, float] = defaultdict(float)
    for pid, name in running.items():
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        held[name] += sum(map(int, re.findall(r"^Pss_(?:Anon|Shmem):\s+(\d+) kB", text, re.MULTILINE))) / 1e3
    return {**held, "all": sum(held.values())}


def sent(call: Callable[..., bytes], made: Wrong) -> tuple[grpc.StatusCode, str]:
    """The status that a request gets, and its reason."""
    try:
        call(made.message, timeout=TIMEOUT_S)
    except grpc.RpcError as error:
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


def unfit(made: Wrong, status: grpc.StatusCode, reason: str) -> bool:
    """Whether a wrong request got what it should not: such a status, or no reason."""
    unsaid = status is not grpc.StatusCode.OK and not reason.strip()
    return unsaid or status in NEVER or (made.allowed is not None and status not in made.allowed)


def send(
    made: Mapping[int, Wrong], call: Callable[..., bytes], pool: ThreadPoolExecutor, counts: Counter[str]
) -> list[str]:
    """Send requests several at a time and count what they get. Returns what they should not have got."""
    faults = []
    for number, (status, reason) in zip(made, pool.map(partial(sent, call), made.values()), strict=True):
        kind = made[number].kind
        counts[f"{kind}: {status.name}"] += 1
        if unfit(made[number], status, reason):
            faults.append(f"request {number} ({kind}) got {status.name}: {reason}")
    return faults


def right(client: Client, good: list[bytes]) -> list[object]:
    """What the good photos are answered with, as far as it must not change."""
    outcomes = client.query(good)
    return [
        (item.landmark_id, [near.image_id for near in item.neighbours]) if isinstance(item, Answer) else str(item)
        for item in outcomes
    ]


def remember(server: Server, retrieve: Path) -> None:
    """Have `verify` look at each photo of the index, so that what it remembers of them, up to a limit, is there."""
    entries = Entries.open(retrieve / str(newest_version(retrieve)) / ENTRIES_FILE)
    with Client(server.address, TIMEOUT_S) as client:
        photos = (client.photo(as_image_id(number)) for number in entries.image_ids.tolist())
        for _ in progress(client.verify_stream(photos, MOST_CHECKED), "warm up verify", len(entries), "photo"):
            pass


def fuzz(server: Server, models: set[str], numbers: Sequence[int], warm_up: int, seed: int) -> list[str]:
    """Send the requests, `warm_up` of them before memory is looked at, and print what came. Returns what went wrong."""
    photos = corpus(np.random.default_rng(seed))
    good, faults = photos[: len(FORMATS)], list[str]()
    counts: Counter[str] = Counter()
    limits = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    before, looks = processes(server), list[dict[str, float]]()
    with (
        Client(server.address, TIMEOUT_S) as client,
        grpc.insecure_channel(server.address, options=limits) as channel,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        wanted, call = right(client, good), channel.unary_unary(INFER)
        for start in progress(range(0, len(numbers), ROUND), "fuzz", unit="hundred"):
            part = numbers[start : start + ROUND]
            made = {number: wrong(number, seed, photos, models) for number in part}
            faults += send(made, call, pool, counts)
            if right(client, good) != wanted:
                faults.append(f"after request {part[-1]} good photos are answered otherwise")
            if (now := processes(server)) != before:
                return [*faults, f"after request {part[-1]} processes {before} have become {now}"]
            if start >= warm_up:
                looks.append(memory(before))
    print("\n".join(f"{count:8}  {what}" for what, count in sorted(counts.items())))
    return faults + grown(looks)


def grown(looks: Sequence[Mapping[str, float]]) -> list[str]:
    """Print how memory grew from the first looks at it to the last. Returns what is wrong with that."""
    if len(looks) < 2 * WINDOW:
        print(f"memory was looked at {len(looks)} times, which is too few to say whether it grew")
        return []
    held = [
        {name: median(look[name] for look in part) for name in part[0]} for part in (looks[:WINDOW], looks[-WINDOW:])
    ]
    print(f"memory, median of the first and of the last {WINDOW} of {len(looks)} looks after the warm-up:")
    for name, first in held[0].items():
        print(f"{first:8.0f} MB {held[1][name]:8.0f} MB {held[1][name] / first - 1:+8.1%}  {name}")
    growth = held[1]["all"] / held[0]["all"] - 1
    return [f"memory grew by {growth:.1%}, more than {MOST_GROWTH:.0%}"] if growth > MOST_GROWTH else []


def main() -> int:
    """Start a server, send the requests, say what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument(
        "--warm-up",
        type=int,
        default=10_000,
        help="requests before them, and `verify` of each photo of the index, after which memory should stay",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repository", type=Path, default=ROOT / "triton_repo")
    parser.add_argument(
        "--photos", type=Path, default=default_photos(), help="the index's; without, `photo` and `verify` are left out"
    )
    parser.add_argument("--only", type=int, metavar="NUMBER", help="send this request alone")
    args = parser.parse_args()
    warm_up = args.warm_up if args.only is None else 0
    numbers = range(warm_up + args.requests) if args.only is None else [args.only]
    models = {path.parent.name for path in args.repository.glob("*/config.pbtxt")}
    if args.photos is None:
        models -= {"photo", "verify"}
    with (
        tempfile.TemporaryDirectory(prefix="cairn-fuzz-") as folder,
        started(
            args.repository, default_server_env(), Path(folder), free_ports(), LOOPBACK, photos=args.photos
        ) as server,
    ):
        if warm_up and VERIFY in models:
            remember(server, args.repository / "retrieve")
        faults = fuzz(server, models, numbers, warm_up, args.seed)
    print("\n".join(faults) or f"after {len(numbers)} requests of seed {args.seed} the server is as it was")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
