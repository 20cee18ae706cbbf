"""`photo` and `verify` on the real server: photos come back byte for byte, matches lie right, errors say why."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from gallery.made_gallery import NAME, make_place
from google.protobuf import text_format
from PIL import Image
from retrieval.local.rendered import askew, homography, moved, picture
from serving.tiny_repository import PREPROCESSING, ROOT, Tiny
from tritonclient import grpc
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import InferenceServerException

from cairn.client import Client, PhotoError, ServerUnavailable, Verified
from cairn.files import write_json
from cairn.manifest import as_image_id, as_number, read_images
from cairn.photos import decode
from cairn.retrieval.entries import ENTRIES, ENTRIES_FILE, Entries, write_entries
from cairn.retrieval.local import EXTRACTORS
from cairn.retrieval.local.features import Features
from cairn.retrieval.local.pixels import reduced
from cairn.retrieval.neighbours import Neighbours
from cairn.retrieval.rerankers.local_features import LocalFeatures, LocalFeaturesParams
from cairn.retrieval.result import searched
from cairn.serving.preparing import PREPROCESS_FILE
from cairn.serving.server import default_server_env, running_server
from cairn.serving.showing import IndexPhotos, PhotosUnavailable, UnknownPhoto
from cairn.serving.verifying import CHECKED, MOST_CHECKED, NOT_COMPARED, Verifier
from cairn.shards import Member, ShardReader, write_shards

ROTATED = 6  # EXIF: turn clockwise by 90 degrees to see it upright


@pytest.fixture(scope="module")
def indexed(tiny: Tiny) -> dict[str, bytes]:
    """The index's photos by image id."""
    with ShardReader(tiny.photos) as reader:
        rows = read_images(tiny.photos).to_pylist()
        return {row["image_id"]: reader.read(row["shard"], row["offset"], row["size"]) for row in rows}


@pytest.fixture(scope="module")
def client(tiny_server: str) -> Iterator[Client]:
    with Client(tiny_server, 120.0) as client:
        yield client


def infer(address: str, model: str, inputs: dict[str, Any], **options: Any) -> grpc.InferResult:
    tensors = []
    for name, value in inputs.items():
        array = np.array(value, dtype=np.object_)
        tensor = grpc.InferInput(name, list(array.shape), "BYTES")
        tensor.set_data_from_numpy(array)
        tensors.append(tensor)
    return grpc.InferenceServerClient(address).infer(model, tensors, **options)


def as_png(image: Image.Image, orientation: int | None = None) -> bytes:
    exif, out = Image.Exif(), io.BytesIO()
    if orientation is not None:
        exif[0x0112] = orientation
    image.save(out, format="PNG", exif=exif)
    return out.getvalue()


def write_version(folder: Path, rows: list[tuple[Any, ...]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table(dict(zip(ENTRIES.names, zip(*rows, strict=True), strict=True)))
    write_entries(folder / ENTRIES_FILE, table)


def test_photos_come_back_byte_for_byte(indexed: dict[str, bytes], client: Client, tiny_server: str) -> None:
    ids = list(indexed)
    assert client.photo(ids[3]) == indexed[ids[3]]
    several = infer(tiny_server, "photo", {"image_id": [[i.encode()] for i in ids]}).as_numpy("photo")
    assert several.ravel().tolist() == list(indexed.values())


@pytest.mark.parametrize("wrong", ["0" * 16, "../../etc/passwd", "", "f" * 40])
def test_an_unknown_id_is_named(wrong: str, client: Client) -> None:
    with pytest.raises(PhotoError, match="version 1 of the index has no such photo") as caught:
        client.photo(wrong)
    assert repr(wrong) in str(caught.value)


def test_all_of_landmarks_outputs_come_along(tiny: Tiny, tiny_server: str) -> None:
    def config(name: str) -> Any:
        text = (ROOT / "triton_repo" / name / "config.pbtxt").read_text()
        return text_format.Parse(text, model_config_pb2.ModelConfig())

    named = {
        name: {o.name: (o.data_type, list(o.dims)) for o in config(name).output} for name in ("landmark", "verify")
    }
    own = {name: named["verify"].pop(name) for name in ("inliers", "matches")}
    assert named["verify"] == named["landmark"]
    assert own["matches"][1] == [-1, 5]

    for photo in (tiny.known[3], tiny.unknown):
        plain = infer(tiny_server, "landmark", {"photo": [[photo]]})
        compared = infer(tiny_server, "verify", {"photo": [photo]}, request_id="a-request")
        for name in named["landmark"]:
            assert np.array_equal(plain.as_numpy(name)[0], compared.as_numpy(name)), name
        inliers, matches = compared.as_numpy("inliers"), compared.as_numpy("matches")
        assert (inliers.dtype, matches.dtype) == (np.int32, np.float32)
        assert (inliers[:CHECKED] >= 0).all()
        assert (inliers[CHECKED:] == NOT_COMPARED).all()
        assert np.bincount(matches[:, 0].astype(int), minlength=CHECKED).tolist() == inliers[:CHECKED].tolist()


def own_position(verified: Verified, image_id: str) -> int:
    return [near.image_id for near in verified.answer.neighbours].index(image_id)


def test_a_photo_of_the_index_matches_itself_point_for_point(indexed: dict[str, bytes], client: Client) -> None:
    image_id, content = next(iter(indexed.items()))
    upright = Image.open(io.BytesIO(content))
    turned = as_png(upright.transpose(Image.Transpose.ROTATE_90), ROTATED)
    larger = as_png(upright.resize((3 * upright.width, 3 * upright.height), Image.Resampling.BICUBIC))
    for query, within in ((content, 1e-5), (turned, 1e-5), (larger, 0.02)):
        verified = client.verify(query, MOST_CHECKED)
        at = own_position(verified, image_id)
        points = np.array([match[1:] for match in verified.matches if match.neighbour == at])
        assert len(points) == verified.inliers[at] >= 5
        assert max(number or 0 for number in verified.inliers) == verified.inliers[at]
        assert (points >= 0).all()
        assert (points <= 1).all()
        assert np.median(np.abs(points[:, :2] - points[:, 2:])) < within


def test_inliers_are_those_of_evaluates_re_ranker(tiny: Tiny, indexed: dict[str, bytes], client: Client) -> None:
    query = tiny.known[5]
    verified = client.verify(query, MOST_CHECKED)
    how = LocalFeaturesParams(top=MOST_CHECKED)
    ids = np.array([as_number(near.image_id) for near in verified.answer.neighbours])
    by_number = {as_number(image_id): content for image_id, content in indexed.items()}
    extract = EXTRACTORS["sift"](how.max_features, how.min_strength)

    def features(number: int) -> Features:
        content = query if number == -1 else by_number[number]
        image = np.asarray(decode(content, PREPROCESSING.short_side, PREPROCESSING.max_megapixels))
        return extract(reduced(image, how.size))

    found = Neighbours(
        ids[None],
        np.array([[near.landmark_id for near in verified.answer.neighbours]]),
        np.array([[near.score for near in verified.answer.neighbours]], dtype=np.float32),
    )
    result = searched(np.eye(1, 8, dtype=np.float32), found, np.array([-1]))
    assert LocalFeatures(how, features).inliers(result)[0].tolist() == verified.inliers


def test_a_photo_seen_askew_matches_where_its_points_went(tmp_path: Path) -> None:
    here, there, other = picture(0), askew(picture(0)), picture(1)
    contents = [(f"{i}.png", as_png(Image.fromarray(image))) for i, image in enumerate((here, other))]
    rows = [
        (i, 0, m.name, None, None, m.shard, m.offset, m.size)
        for i, m in enumerate(write_shards(contents, tmp_path / "clean", 1e9))
    ]
    write_version(tmp_path / "retrieve" / "1", rows)
    write_json(tmp_path / PREPROCESS_FILE, PREPROCESSING.model_dump())
    verifier = Verifier(IndexPhotos(tmp_path / "retrieve", tmp_path / "clean"), tmp_path)
    ids = [f"{i:016x}" for i in range(2)]
    compared = verifier(as_png(Image.fromarray(there)), [*ids, ids[0], ""], 1, 2)
    inliers, matches = compared["inliers"].tolist(), compared["matches"]
    assert inliers[0] > 25
    assert inliers[1] < 12
    assert inliers[2:] == [NOT_COMPARED] * 2
    size = np.array(here.shape[1::-1])
    mine = matches[matches[:, 0] == 0, 1:]
    assert len(mine) == inliers[0]
    went = moved(mine[:, 2:] * size - 0.5, homography(here))
    assert np.median(np.linalg.norm(went - (mine[:, :2] * size - 0.5), axis=1)) < 1


@pytest.mark.parametrize("check", [0, MOST_CHECKED + 1, -1, "three", True, 2.0])
def test_a_wrong_number_to_check_is_refused(check: Any, tiny: Tiny, tiny_server: str) -> None:
    with pytest.raises(InferenceServerException, match=r"check = .*: .* from 1 to 10") as caught:
        infer(tiny_server, "verify", {"photo": [tiny.known[3]]}, parameters={"check": check})
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_only_so_many_are_compared(tiny: Tiny, client: Client) -> None:
    verified = client.verify(tiny.known[8], 2)
    assert [number is None for number in verified.inliers] == [False, False] + [True] * 8
    assert {match.neighbour for match in verified.matches} <= {0, 1}


@pytest.mark.parametrize("broken", [b"", b"no photo", as_png(Image.new("L", (2500, 2000)))])
def test_what_landmark_refuses_is_refused_for_the_same_reason(broken: bytes, tiny_server: str) -> None:
    errors = []
    for model, photo in (("landmark", [[broken]]), ("verify", [broken])):
        with pytest.raises(InferenceServerException) as caught:
            infer(tiny_server, model, {"photo": photo})
        errors.append((caught.value.status(), caught.value.message().removeprefix("in ensemble 'landmark', ")))
    assert errors[0] == errors[1]
    assert errors[0][0] == "StatusCode.INVALID_ARGUMENT"


def test_many_at_once_wait_for_each_other_without_a_standstill(tiny: Tiny, client: Client) -> None:
    photos = [*tiny.known.values(), tiny.unknown] * 6
    alone = [client.verify(photo) for photo in photos[:4]]
    with ThreadPoolExecutor(8) as pool:
        verified = pool.map(client.verify, photos, timeout=120)
        answered = client.query(photos * 4)  # plain requests in between
        assert list(verified) == alone * 6
    assert [outcome.landmark_id for outcome in answered if not isinstance(outcome, PhotoError)] == [
        *tiny.known,
        None,
    ] * 24


@pytest.fixture(scope="module")
def bare_server(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Without photos, and with a queue before `retrieve` in which one request has room, at a batch of one."""
    repository = tmp_path_factory.mktemp("bare") / "triton_repo"
    shutil.copytree(tiny.repository, repository)
    for model in ("retrieve", "landmark"):
        config = repository / model / "config.pbtxt"
        one = re.sub(r"(max_queue_size|max_batch_size): \d+", r"\1: 1", config.read_text())
        config.write_text(one)
    with running_server(repository, default_server_env()) as address:
        yield address


def test_a_server_without_photos_answers_but_shows_and_compares_none(
    tiny: Tiny, indexed: dict[str, bytes], bare_server: str
) -> None:
    reason = r"this server was not given the index's photos; start the server with --photos FOLDER .*UNAVAILABLE"
    with Client(bare_server, 120.0) as client:
        with pytest.raises(ServerUnavailable, match=reason):
            client.photo(next(iter(indexed)))
        with pytest.raises(ServerUnavailable, match=reason):
            client.verify(tiny.known[3])
        (answer,) = client.query([tiny.known[3]])
        assert not isinstance(answer, PhotoError)
        assert answer.landmark_id == 3


def test_a_full_queue_behind_it_is_no_fault_of_the_server(tiny: Tiny, bare_server: str) -> None:
    def refused(number: int) -> tuple[str, str]:
        model, photo = ("verify", [tiny.known[3]]) if number % 4 == 0 else ("landmark", [[tiny.known[3]]])
        try:
            infer(bare_server, model, {"photo": photo})
        except InferenceServerException as error:
            return error.status(), error.message()
        return "", ""

    with ThreadPoolExecutor(48) as pool:
        outcomes = list(pool.map(refused, range(400)))[::4]
    assert {status for status, _ in outcomes} == {"StatusCode.UNAVAILABLE"}
    assert any(reason.endswith("Exceeds maximum queue size") for _, reason in outcomes)


@pytest.fixture
def growing(tmp_path: Path) -> IndexPhotos:
    """Version 1 holds photos a and b of the pipeline; version 10 holds a, and c, which was added."""
    first, later = tmp_path / "retrieve" / "1", tmp_path / "retrieve" / "10"
    a, b = write_shards([("a.png", b"photo a"), ("b.png", b"photo b")], tmp_path / "clean", 1e9)
    (c,) = write_shards([("c.png", b"photo c")], later / "photos", 1e9)

    def entry(number: int, member: Member, shard: str) -> tuple[Any, ...]:
        return number, 0, member.name, None, None, shard, member.offset, member.size

    write_version(first, [entry(1, a, a.shard), entry(2, b, b.shard), entry(4, a, "../secret.tar")])
    write_version(later, [entry(1, a, a.shard), entry(3, c, f"photos/{c.shard}")])
    (tmp_path / "retrieve" / ".11.aside").mkdir()
    (tmp_path / "secret.tar").write_bytes(bytes(10_000))
    return IndexPhotos(tmp_path / "retrieve", tmp_path / "clean")


def photo_of(photos: IndexPhotos, number: int, version: int | None = None) -> bytes:
    return photos.read(photos.find(f"{number:016x}", version))


def test_the_newest_version_is_shown_and_an_older_one_where_it_answered(growing: IndexPhotos) -> None:
    assert [photo_of(growing, number) for number in (1, 3)] == [b"photo a", b"photo c"]
    assert [photo_of(growing, number, 1) for number in (1, 2)] == [b"photo a", b"photo b"]
    with pytest.raises(UnknownPhoto, match="version 10"):
        photo_of(growing, 2)
    same = [growing.find(f"{1:016x}", version) for version in (1, 10)]
    assert same[0] == same[1]  # so that its features are remembered over a change of versions


def test_photos_that_were_added_are_shown_until_they_are_removed(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    photos = IndexPhotos(place.tiny.repository / "retrieve", place.tiny.photos)
    old = set(Entries.open(place.version(1) / ENTRIES_FILE).image_ids.tolist())
    assert place.run("add", NAME, place.photos) == 0
    assert place.publish() == 2
    new = set(Entries.open(place.version(2) / ENTRIES_FILE).image_ids.tolist()) - old
    assert {photos.read(photos.find(as_image_id(number))) for number in new} == {
        path.read_bytes() for path in place.photos.iterdir()
    }
    assert place.run("remove", "--landmark", NAME) == 0
    assert place.publish() == 3
    for number in new:
        with pytest.raises(UnknownPhoto, match="version 3 of the index has no such photo"):
            photos.find(as_image_id(number))


def test_a_version_that_comes_or_goes_is_noticed(growing: IndexPhotos, tmp_path: Path) -> None:
    assert photo_of(growing, 3) == b"photo c"
    retrieve = tmp_path / "retrieve"
    shutil.copytree(retrieve / "1", retrieve / "11")
    assert photo_of(growing, 2) == b"photo b"
    shutil.rmtree(retrieve / "10")
    shutil.copytree(retrieve / "1", retrieve / "12")
    assert photo_of(growing, 2) == b"photo b"
    with pytest.raises(PhotosUnavailable, match="version 10 of the index cannot be opened"):
        photo_of(growing, 3, 10)


def test_nothing_outside_the_folders_is_read(growing: IndexPhotos) -> None:
    with pytest.raises(PhotosUnavailable, match="lies outside"):
        photo_of(growing, 4, 1)


def test_a_missing_shard_names_the_way_out(growing: IndexPhotos, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "clean")
    with pytest.raises(PhotosUnavailable, match=r"shard_00000\.tar: No such file .*--photos FOLDER"):
        photo_of(growing, 1)


SIDE_BY_SIDE = """
import sys
import cv2
import numpy as np
from cairn.retrieval.local import EXTRACTORS
from cairn.retrieval.rerankers.local_features import LocalFeaturesParams, fitted

how, made = LocalFeaturesParams(), {}
with np.load(sys.argv[1]) as pictures:
    seen = [EXTRACTORS["sift"](how.max_features, how.min_strength)(pictures[name]) for name in sorted(pictures)]
for i, features in enumerate(seen):
    made |= {f"points{i}": features.points, f"descriptors{i}": features.descriptors}
    made |= {f"fit{i}{j}": np.hstack(fitted(how, features, other)) for j, other in enumerate(seen)}
np.savez(sys.argv[2], **made)
print(np.__version__, cv2.__version__)
"""


def test_the_servers_opencv_sees_what_the_pipelines_sees(tmp_path: Path) -> None:
    """The two environments have different versions of OpenCV and numpy, on either side of numpy 2."""
    np.savez(tmp_path / "pictures.npz", a=picture(0), b=askew(picture(0)), c=picture(1))
    pythons = {"here": Path(sys.executable), "server": default_server_env() / "bin" / "python"}
    versions, made = {}, {}
    for name, python in pythons.items():
        command = [python, "-c", SIDE_BY_SIDE, tmp_path / "pictures.npz", tmp_path / f"{name}.npz"]
        versions[name] = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        made[name] = dict(np.load(tmp_path / f"{name}.npz"))
    assert [versions[name][0].partition(".")[0] for name in ("here", "server")] == ["2", "1"]
    assert versions["here"][1] != versions["server"][1]
    here, server = made["here"], made["server"]
    assert here.keys() == server.keys()
    for name in here:
        np.testing.assert_allclose(server[name], here[name], atol=1e-3, err_msg=name)  # of pixels, or of a unit vector
    assert len(here["fit01"]) > 25
    assert len(here["fit02"]) < 12
