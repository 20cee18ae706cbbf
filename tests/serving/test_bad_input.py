"""What is no proper request: a right answer, or INVALID_ARGUMENT with the reason; never a dead server.

After each of them a good photo is answered right, by the same processes.
"""

from __future__ import annotations

import io
import re
import struct
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import grpc
import numpy as np
import pytest
from harmful import (
    avif_of,
    bmp_of,
    bmp_of_runs,
    encoded,
    gif_of,
    gif_of_blocks,
    jpeg_of,
    jpeg_of_scans,
    jpeg_of_segments,
    png_of,
    png_of_chunks,
    png_of_texts,
    ppm_of_comments,
    tiff_of,
    tiff_of_strips,
    tiff_of_tile,
    webp_of,
)
from numpy.typing import NDArray
from PIL import Image
from serving.tiny_repository import DIMENSIONS, ROOT, SIDE, Tiny, embed_offline
from tritonclient.grpc import service_pb2, service_pb2_grpc

from cairn.client import Answer, Client, Options, PhotoError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF")
NO_IMAGE = "not an image of a known format"


def stubs(tiny: Tiny) -> dict[str, set[int]]:
    """The processes of the Python models, by model."""
    found: dict[str, set[int]] = defaultdict(set)
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended between the listing and the look
        if "stub" in words[0] and len(words) > 1 and words[1].startswith(f"{tiny.repository}/"):
            found[Path(words[1]).relative_to(tiny.repository).parts[0]].add(int(path.parent.name))
    return found


@pytest.fixture(autouse=True)
def good_is_answered_right_afterwards(tiny: Tiny, tiny_server: str) -> Iterator[None]:
    before = stubs(tiny)
    assert {"preprocess", "embed", "retrieve"} <= set(before)
    yield
    with Client(tiny_server) as client:
        got = client.query(list(tiny.known.values()))
    assert [item.landmark_id for item in got if isinstance(item, Answer)] == list(tiny.known)
    assert stubs(tiny) == before


def asked(address: str, *photos: bytes) -> list[Answer | PhotoError]:
    """Without the limits of the client, each photo in a request of its own."""
    with Client(address, options=Options(max_photo_mb=1000)) as client:
        return client.query(photos)


def picture(tiny: Tiny) -> Image.Image:
    return Image.open(io.BytesIO(tiny.known[3])).convert("RGB")


def box(brand: bytes) -> bytes:
    return struct.pack(">I", 24) + b"ftyp" + brand + bytes(4) + brand + b"mif1" + bytes(200)


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "^empty file$"),
    "text": (lambda: b"no photo", f"^{NO_IMAGE}"),
    "zeros": (lambda: bytes(10**6), f"^{NO_IMAGE}"),
    "heic": (lambda: box(b"heic"), f"^{NO_IMAGE}.*; it looks like HEIC: save it as JPEG"),
    "svg": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", "it looks like SVG: a drawing"),
    "web page": (lambda: b"<!DOCTYPE html><html>404</html>", "it looks like a web page"),
    "icon": (lambda: encoded(Image.new("RGB", (16, 16)), "ICO"), "it looks like an icon"),
    "too many bytes": (lambda: bytes(65 * 10**6), r"^65.0 MB, over the limit of 64 MB$"),
    "png": (lambda: png_of(50_000, 50_000), "^2500 megapixels, over the limit of 4 megapixels$"),
    "jpeg": (lambda: jpeg_of(65_535, 65_535), "megapixels, over the limit of 4 megapixels$"),
    "gif": (lambda: gif_of(60_000, 60_000), "^3600 megapixels, over the limit of 4 megapixels$"),
    "webp": (lambda: webp_of(16_000, 16_000), "^256 megapixels, over the limit of 4 megapixels$"),
    "bmp": (lambda: bmp_of(50_000, 50_000), "^2500 megapixels, over the limit of 4 megapixels$"),
    "tiff": (lambda: tiff_of(50_000, 50_000), "^2500 megapixels, over the limit of 4 megapixels$"),
    "ppm": (lambda: b"P6 50000 50000 255\n", "^2500 megapixels, over the limit of 4 megapixels$"),
    "tile": (lambda: tiff_of_tile(10_000, 10_000), "^a TIFF with tiles of 10000 x 10000 pixels"),
    "strips": (lambda: tiff_of_strips(600_000), "^a TIFF of 600000 pieces"),
    "scans": (lambda: jpeg_of_scans(200), "^a JPEG of more than 100 scans$"),
    "segments": (lambda: jpeg_of_segments(2_000_000), "^a JPEG of more than 10000 segments$"),
    "chunks": (lambda: png_of_chunks(500_000), "^a PNG of more than 10000 chunks$"),
    "blocks": (lambda: gif_of_blocks(4_000_000), "^a GIF of more than 100000 blocks"),
    "runs": (lambda: bmp_of_runs(2000, 2000, b"\1\1\0\0" * 2000), "^a BMP of 4000000 pixels in runs of 9078 bytes$"),
    "comments": (lambda: ppm_of_comments(4_000_000), "^a PPM of more than 1000 comments$"),
    "texts": (lambda: png_of_texts(80), "^broken image: .*text chunks"),
}


def kilobytes(pids: set[int], name: str) -> int:
    texts = (Path(f"/proc/{pid}/status").read_text() for pid in pids)
    return sum(int(number) for text in texts for number in re.findall(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE))


@pytest.mark.parametrize("what", REFUSED)
def test_no_photo_is_refused_with_the_reason_in_little_memory(tiny: Tiny, tiny_server: str, what: str) -> None:
    make, said = REFUSED[what]
    content, decoding = make(), stubs(tiny)["preprocess"]
    for process in decoding:
        Path(f"/proc/{process}/clear_refs").write_text("5")  # forget the peak so far
    before = kilobytes(decoding, "VmRSS")
    (got,) = asked(tiny_server, content)
    assert isinstance(got, PhotoError)
    assert re.search(said, str(got)), str(got)
    assert kilobytes(decoding, "VmHWM") - before < 50_000 + 4 * len(content) / 1000


@pytest.mark.parametrize("kind", FORMATS)
def test_a_photo_that_is_cut_off_is_refused(tiny: Tiny, tiny_server: str, kind: str) -> None:
    whole = encoded(picture(tiny), kind)
    got = asked(tiny_server, *(whole[: int(len(whole) * share)] for share in (0.02, 0.3, 0.6, 0.95)))
    assert all(isinstance(item, PhotoError) for item in got), got
    assert all(re.search(f"^({NO_IMAGE}|broken image: )", str(item)) for item in got), got


def turned(image: Image.Image) -> bytes:
    """Lying on its side, with EXIF that says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(image.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)


OTHER = Image.new("RGB", (90, 70), "white")
READ: dict[str, Callable[[Image.Image], bytes]] = {
    **{kind: lambda image, kind=kind: encoded(image, kind) for kind in FORMATS},  # type: ignore[misc]
    "first frame of a GIF": lambda image: encoded(image, "GIF", save_all=True, append_images=[OTHER]),
    "first frame of a WebP": lambda image: encoded(image, "WEBP", save_all=True, append_images=[OTHER]),
    "turned by EXIF": turned,
    "CMYK": lambda image: encoded(image.convert("CMYK"), "JPEG", quality=95),
    "palette": lambda image: encoded(image.quantize(256), "PNG"),
    "transparency": lambda image: encoded(image.convert("RGBA"), "PNG"),
    "progressive": lambda image: encoded(image, "JPEG", progressive=True),
    "50 MB": lambda image: encoded(image, "PNG") + bytes(50 * 10**6),
}


@pytest.mark.parametrize("what", READ)
def test_a_photo_of_another_kind_is_answered_right(tiny: Tiny, tiny_server: str, what: str) -> None:
    (got,) = asked(tiny_server, READ[what](picture(tiny)))
    assert isinstance(got, Answer), got
    assert got.landmark_id == 3


@pytest.mark.parametrize(
    "content",
    [
        encoded(Image.new("RGB", (1, 1), (200, 30, 30)), "PNG"),
        encoded(Image.new("RGB", (4000, 1), (200, 30, 30)), "JPEG"),
        encoded(Image.fromarray(np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)), "PNG"),
        encoded(Image.fromarray(np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)), "TIFF"),
        avif_of(800, 10),
    ],
    ids=["1 x 1", "4000 x 1", "16 bits", "real numbers", "lying AVIF"],
)
def test_an_odd_photo_has_the_embedding_of_the_offline_computation(
    tiny: Tiny, tiny_server: str, content: bytes
) -> None:
    wanted = embed_offline(tiny.repository / "embed" / "1" / "model.onnx", [content])
    with Client(tiny_server) as client:
        np.testing.assert_allclose(client.embeddings([content]), wanted, atol=1e-5)


def packed(*photos: bytes) -> bytes:
    """BYTES as gRPC carries them: each with its length before it."""
    return b"".join(struct.pack("<I", len(photo)) + photo for photo in photos)


def request(
    raw: bytes | None = None,
    shape: tuple[int, ...] = (1, 1),
    model: str = "landmark",
    version: str = "",
    name: str = "photo",
    datatype: str = "BYTES",
    contents: tuple[bytes, ...] = (),
) -> service_pb2.ModelInferRequest:
    made = service_pb2.ModelInferRequest(model_name=model, model_version=version)
    tensor = made.inputs.add(name=name, datatype=datatype, shape=shape)
    if contents:
        tensor.contents.bytes_contents.extend(contents)
    if raw is not None:
        made.raw_input_contents.append(raw)
    return made


def status(address: str, made: service_pb2.ModelInferRequest) -> tuple[grpc.StatusCode, str]:
    limits = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(address, options=limits) as channel:
        try:
            service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(made, timeout=60)
        except grpc.RpcError as error:
            return error.code(), error.details()
    return grpc.StatusCode.OK, ""


INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
MALFORMED = {
    "no input": (service_pb2.ModelInferRequest(model_name="landmark"), INVALID, "missing required input"),
    "no data": (request(), INVALID, "unable to find data for input tensor 'photo'"),
    "another input": (request(packed(b""), name="foto"), INVALID, "unexpected inference input 'foto'"),
    "another type": (request(b"123", datatype="UINT8"), INVALID, "expects 'BYTES'"),
    "a type that is none": (request(b"123", datatype="PHOTO"), INVALID, "expects 'BYTES'"),
    "no shape": (request(packed(b""), shape=()), INVALID, "has no shape"),
    "too few axes": (request(packed(b""), shape=(1,)), INVALID, "unexpected shape"),
    "too many axes": (request(packed(b""), shape=(1, 1, 1)), INVALID, "unexpected shape"),
    "a negative axis": (request(packed(b""), shape=(-1, 1)), INVALID, "expected 4294967295 string elements"),
    "two photos a row": (request(packed(b"", b""), shape=(1, 2)), INVALID, "unexpected shape"),
    "more rows than photos": (request(packed(b""), shape=(2, 1)), INVALID, "expected 2 string elements"),
    "more photos than rows": (request(packed(b"", b"")), INVALID, "unexpected number of string elements"),
    "too large a batch": (request(packed(*[b""] * 65), shape=(65, 1)), INVALID, "batch-size must be <= 64"),
    "no photo": (request(b"", shape=(0, 1)), INVALID, "expected 1 string elements"),
    "half a length": (request(b"\1\0"), INVALID, "incomplete string length"),
    "too great a length": (request(struct.pack("<I", 2**32 - 1) + b"x"), INVALID, "incomplete string data"),
    "data twice": (request(packed(b""), contents=(b"",)), INVALID, "must not be specified"),
    "another model": (request(packed(b""), model="landmarks"), NOT_FOUND, "unknown model: 'landmarks'"),
    "another version": (request(packed(b""), version="99"), NOT_FOUND, "version 99 is not found"),
    "no version": (request(packed(b""), version="new"), INVALID, "should be an integral value"),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_request_is_refused_with_the_reason(tiny_server: str, what: str) -> None:
    made, code, said = MALFORMED[what]
    got, reason = status(tiny_server, made)
    assert got == code
    assert said in reason


def test_broken_photos_of_a_request_leave_the_others_alone(tiny: Tiny, tiny_server: str) -> None:
    """Each row of `landmark` and of `preprocess`: a broken one has a reason and a black image."""
    good, rows = tiny.known[8], [True, False, True, False, False, True] * 10
    photos = [good if row else b"no photo" for row in rows]
    with Client(tiny_server, options=Options(photos_a_request=60)) as client:
        got = client.query(photos)
        assert [isinstance(item, Answer) for item in got] == rows
        assert {item.landmark_id for item in got if isinstance(item, Answer)} == {8}
        assert {str(item)[: len(NO_IMAGE)] for item in got if isinstance(item, PhotoError)} == {NO_IMAGE}
    with grpc.insecure_channel(tiny_server) as channel:
        made = request(packed(*photos), shape=(60, 1), model="preprocess")
        answer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(made)
    outputs = dict(zip((output.name for output in answer.outputs), answer.raw_output_contents, strict=True))
    images = np.frombuffer(outputs["image"], dtype=np.uint8).reshape(60, SIDE, SIDE, 3)
    assert images.any(axis=(1, 2, 3)).tolist() == rows
    assert (images[np.array(rows)] == images[0]).all()


@pytest.mark.parametrize("count", [1, 3])
def test_a_request_of_nothing_but_broken_photos_fails(tiny_server: str, count: int) -> None:
    got, reason = status(tiny_server, request(packed(*[b"no photo"] * count), shape=(count, 1)))
    assert got == INVALID
    assert NO_IMAGE in reason


def test_good_and_bad_at_once(tiny: Tiny, tiny_server: str) -> None:
    """From several connections, so that they meet in the server's batches."""
    bad = [REFUSED[what][0]() for what in ("empty", "text", "heic", "gif", "webp", "tile", "scans")]
    photos = [photo for each in bad for photo in (each, tiny.known[5], tiny.known[8])]
    wanted = [item for _ in bad for item in (None, 5, 8)]

    def ask(_: int) -> list[int | None]:
        return [item.landmark_id if isinstance(item, Answer) else None for item in asked(tiny_server, *photos)]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(8))) == [wanted] * 8


def test_a_malformed_request_fails_alone(tiny: Tiny, tiny_server: str) -> None:
    """Triton finds a string that is longer than its message only when it runs the batch, and then fails all of it."""
    good = request(packed(tiny.known[5]))
    malformed = request(struct.pack("<I", 2**32 - 1) + tiny.known[5])
    asking = [malformed, good] * 100
    with ThreadPoolExecutor(16) as pool:
        got = [code for code, _ in pool.map(partial(status, tiny_server), asking)]
    assert got == [INVALID, grpc.StatusCode.OK] * 100


def test_a_vector_that_is_none_of_the_networks_fails_alone(tiny_server: str) -> None:
    """Sent to `retrieve` itself, where it meets others in a batch."""

    def vector(values: NDArray[np.float32]) -> service_pb2.ModelInferRequest:
        return request(values.tobytes(), (1, len(values)), "retrieve", name="embedding", datatype="FP32")

    good = vector(np.eye(1, DIMENSIONS, dtype=np.float32)[0])
    twice_as_long, short = vector(np.full(DIMENSIONS, 2, np.float32)), vector(np.ones(3, np.float32))
    with ThreadPoolExecutor(12) as pool:
        got = list(pool.map(partial(status, tiny_server), [twice_as_long, good, short] * 30))
    assert [code for code, _ in got] == [INVALID, grpc.StatusCode.OK, INVALID] * 30
    assert all("unit vectors" in reason for _, reason in got[::3])
    assert all(f"embeddings of 3 dimensions, the index holds {DIMENSIONS}" in reason for _, reason in got[2::3])


def test_a_few_hundred_random_requests_leave_the_server_as_it_was(tiny: Tiny) -> None:
    """benchmarks/fuzz_server.py sends the thousands."""
    script = ROOT / "benchmarks" / "fuzz_server.py"
    options = [f"--repository={tiny.repository}", f"--photos={tiny.photos}", "--requests=300", "--warm-up=0"]
    done = subprocess.run([sys.executable, script, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("after 300 requests of seed 0 the server is as it was\n")
    assert "photo to landmark: INVALID_ARGUMENT" in done.stdout
    assert "photo to landmark: OK" in done.stdout
