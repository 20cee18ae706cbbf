"""What a published version holds and answers, without a server."""

from __future__ import annotations

import hashlib
import json
import shutil
import unicodedata
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from gallery.made_gallery import NAME, NEW, Place, data_files, query
from retrieval.made_index import made_index
from serving.tiny_repository import NAMES, PHOTOS_EACH

from cairn.answering.preprocess import Preprocessing
from cairn.client.main import main
from cairn.export import repository as export
from cairn.files import read_json, write_json
from cairn.gallery.changes import FIRST_ID
from cairn.gallery.locking import GalleryError, locked
from cairn.gallery.versions import check_versions, network_hash, numbers, read_version, retire
from cairn.manifest import as_image_id, as_number, image_id_of, read_landmarks, write_landmarks
from cairn.retrieval.context import CONTEXT_FOLDER, open_context, save_context
from cairn.retrieval.entries import ADDED_PHOTOS, ENTRIES_FILE, Entries
from cairn.retrieval.index import INDEX_FILE, PhotoIndex, write_index
from cairn.retrieval.rerankers.base import Context
from cairn.retrieval.rerankers.knn_vote import KnnVoteParams
from cairn.retrieval.rerankers.prototypes import PROTOTYPES_FILE, Prototypes, prototypes_of
from cairn.serving.control import CERTIFICATE_VARIABLE, KEY_VARIABLE
from cairn.serving.runtime import ServerError, check_repository
from cairn.shards import ShardReader

QUERIES = [query(3), query(5), query(8), query(NEW), query(21)]
WITH_PROTOTYPES = KnnVoteParams(top=3, prototype_weight=4)


def test_nothing_published_is_the_exported_index_again(place: Place) -> None:
    assert place.publish() == 2
    assert data_files(place.version(2)) == data_files(place.version(1))
    wanted, got = place.answers(1, QUERIES), place.answers(2, QUERIES)
    for name, values in wanted.items():
        if name != "index_version":
            np.testing.assert_array_equal(got[name], values)


def test_an_added_landmark_is_answered_and_the_others_as_before(place: Place) -> None:
    assert place.run("add", NAME, place.photos, "--author", "Ünal", "--licence", "CC-BY-4.0") == 0
    before, after = place.answers(1, QUERIES), place.answers(place.publish(), QUERIES)
    assert before["landmark_id"].ravel().tolist() == [3, 5, 8, -1, -1]
    assert after["landmark_id"].ravel().tolist() == [3, 5, 8, FIRST_ID, -1]
    assert after["landmark"][3, 0].decode() == NAME
    assert after["neighbour_landmarks"][3, :6].tolist() == [NAME.encode()] * 6
    assert after["neighbour_attributions"][3, 0].decode() == "Ünal, CC-BY-4.0"
    assert after["index_version"].tolist() == [[2]] * 5
    entries = Entries.open(place.version(2) / ENTRIES_FILE)
    assert len(entries) == 3 * PHOTOS_EACH + 6
    files = {path.read_bytes() for path in place.photos.iterdir()}
    with ShardReader(place.version(2)) as reader:
        found = [entries.find(image_id.decode()) for image_id in after["neighbours"][3, :6]]
        assert {reader.read(e.shard, e.offset, e.size) for e in found if e} == files


def test_the_same_changes_give_the_same_bytes(place: Place) -> None:
    place.run("add", NAME, place.photos)
    place.run("remove", "--landmark", NAMES[5])
    place.publish()
    shutil.rmtree(place.gallery / "embeddings")  # embedded anew
    place.publish()
    assert data_files(place.version(2)) == data_files(place.version(3))


def test_photos_of_a_known_landmark_keep_its_id(place: Place) -> None:
    """Its name is found however it is composed and spaced."""
    spelt = unicodedata.normalize("NFD", NAMES[5]).replace(" ", "  ") + " "
    assert spelt != NAMES[5]
    assert place.run("add", spelt, place.photos / "0.png") == 0
    got = place.answers(place.publish(), [query(NEW)])
    assert got["neighbour_landmark_ids"][0, 0] == 5
    assert (place.version(2) / "landmarks.parquet").read_bytes() == (
        place.version(1) / "landmarks.parquet"
    ).read_bytes()


def test_removed_photos_and_landmarks_are_found_no_more(place: Place) -> None:
    first = place.answers(1, [query(3)])["neighbours"][0, 0].decode()
    assert place.run("remove", "--photo", first) == 0
    assert place.run("remove", "--landmark", NAMES[8]) == 0
    got = place.answers(place.publish(), [query(3), query(8)])
    assert first.encode() not in got["neighbours"][0]
    assert got["landmark_id"].ravel().tolist() == [3, -1]
    assert 8 not in got["neighbour_landmark_ids"]
    assert len(Entries.open(place.version(2) / ENTRIES_FILE)) == 2 * PHOTOS_EACH - 1
    version = read_version(place.tiny.repository, 2)
    assert (version.added, version.removed, version.change) == (0, PHOTOS_EACH + 1, 2)


def test_added_again_after_it_was_removed(place: Place) -> None:
    place.run("add", NAME, place.photos)
    place.run("remove", "--landmark", NAME)
    assert place.answers(place.publish(), [query(NEW)])["landmark_id"].tolist() == [[-1]]
    assert not (place.version(2) / "photos").exists()
    place.run("add", "Another", place.photos / "0.png")
    place.run("add", NAME, place.photos / "1.png", place.photos / "2.png")
    got = place.answers(place.publish(), [query(NEW)])
    assert set(got["neighbour_landmark_ids"][0, :3].tolist()) == {FIRST_ID, FIRST_ID + 1}
    named = dict(zip(got["neighbour_landmark_ids"][0].tolist(), got["neighbour_landmarks"][0].tolist(), strict=True))
    assert named[FIRST_ID].decode() == NAME  # its id is still the first that it had


@pytest.mark.parametrize("seed", range(4))
def test_a_published_index_is_the_one_that_its_photos_would_make(place: Place, seed: int) -> None:
    """Whatever came and went: neighbours, scores and names as by brute force over the photos that are left."""
    rng = np.random.default_rng(seed)
    entries, files = Entries.open(place.version(1) / ENTRIES_FILE), sorted(place.photos.iterdir())
    with ShardReader(place.tiny.photos) as reader:
        exported = [entries.at(row) for row in range(len(entries))]
        live = {e.image_id: (reader.read(e.shard, e.offset, e.size), NAMES[e.landmark_id]) for e in exported}
    for _ in range(6):
        kind = rng.integers(3)
        if kind == 0:
            chosen = [files[n] for n in rng.choice(6, 2, replace=False)]
            landmark = [NAME, NAMES[3]][rng.integers(2)]
            place.run("add", landmark, *chosen)
            for path in chosen:
                live.setdefault(
                    image_id_of(f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"),
                    (path.read_bytes(), landmark),
                )
        elif kind == 1:
            gone = str(rng.choice(sorted(live)))
            place.run("remove", "--photo", gone)
            del live[gone]
        elif len({name for _, name in live.values()}) > 2:
            name = str(rng.choice(sorted({name for _, name in live.values()})))
            place.run("remove", "--landmark", name)
            live = {i: each for i, each in live.items() if each[1] != name}
    number = place.publish()
    ids = sorted(live, key=as_number)
    vectors, queries = place.embedded([live[i][0] for i in ids]), place.embedded(QUERIES)
    cosines = queries @ vectors.T
    got = PhotoIndex.open(place.version(number)).search(queries, len(ids))
    np.testing.assert_allclose(got.scores, -np.sort(-cosines, axis=1), atol=1e-5)
    entries = Entries.open(place.version(number) / ENTRIES_FILE)
    assert [as_image_id(i) for i in entries.image_ids.tolist()] == ids
    by_id = dict(
        zip(*(read_landmarks(place.version(number))[c].to_pylist() for c in ("landmark_id", "name")), strict=True)
    )
    assert [by_id[i] for i in entries.landmark_ids.tolist()] == [live[i][1] for i in ids]
    with ShardReader(place.version(number)) as added, ShardReader(place.tiny.photos) as theirs:
        for row, image_id in enumerate(ids):
            entry = entries.at(row)
            reader = added if entry.shard.startswith(ADDED_PHOTOS) else theirs
            assert reader.read(entry.shard, entry.offset, entry.size) == live[image_id][0]


def test_a_landmark_of_the_index_comes_back_with_the_photos_added_since(place: Place) -> None:
    place.run("remove", "--landmark", NAMES[3])
    (place.photos / "eiffel.png").write_bytes(query(3, seed=4))
    place.run("add", NAMES[3], place.photos / "eiffel.png")
    got = place.answers(place.publish(), [query(3)])
    assert (got["neighbour_landmark_ids"][0] == 3).sum() == 1


def test_the_contexts_vectors_are_those_of_the_index(place: Place) -> None:
    gone = place.answers(1, [query(3)])["neighbours"][0, 0].decode()
    place.run("remove", "--photo", gone)
    place.run("add", NAME, place.photos)
    place.publish()
    entries = Entries.open(place.version(2) / ENTRIES_FILE)
    ids = np.load(place.version(2) / CONTEXT_FOLDER / "vector_ids.npy")
    assert sorted(ids.tolist()) == entries.image_ids.tolist()
    look_up = open_context(place.version(2) / CONTEXT_FOLDER).vectors
    assert look_up is not None
    added = [path.read_bytes() for path in sorted(place.photos.iterdir())]
    wanted = place.embedded(added)
    numbers_of_added = entries.image_ids[entries.landmark_ids == FIRST_ID]
    assert sorted(look_up(numbers_of_added).tolist()) == sorted(wanted.tolist())


def with_prototypes(place: Place, factory: str) -> tuple[np.ndarray, Entries]:
    """The exported index as another type, with prototypes in place of stored vectors; that of 3 is the classifier's."""
    base = place.version(1)
    entries = Entries.open(base / ENTRIES_FILE)
    look_up = open_context(base / CONTEXT_FOLDER).vectors
    assert look_up is not None
    vectors = look_up(entries.image_ids)
    write_index(made_index(vectors, entries.image_ids, factory, 4), base / INDEX_FILE)
    made = prototypes_of(vectors, entries.landmark_ids, None)
    own = np.where(made.landmark_ids == 3, 0, made.photos)
    made.vectors[made.landmark_ids == 3] = np.eye(1, vectors.shape[1], dtype=np.float32)
    shutil.rmtree(base / CONTEXT_FOLDER)
    prototypes = Prototypes(made.landmark_ids, made.vectors, own)
    save_context(base / CONTEXT_FOLDER, (WITH_PROTOTYPES,), Context(prototypes=prototypes), entries.image_ids, vectors)
    rule = read_json(base / "answer.json")
    write_json(base / "answer.json", {**rule, "steps": [WITH_PROTOTYPES.model_dump()]})
    return vectors, entries


@pytest.mark.parametrize(("factory", "near"), [("Flat", 1e-6), ("SQfp16", 1e-3), ("IVF2,SQfp16", 1e-3)])
def test_prototypes_are_the_means_of_the_photos_of_now(place: Place, factory: str, near: float) -> None:
    vectors, entries = with_prototypes(place, factory)
    fifth = np.flatnonzero(entries.landmark_ids == 5)
    place.run("remove", "--photo", *(as_image_id(int(entries.image_ids[row])) for row in fifth[:2]))
    place.run("add", NAMES[3], place.photos / "0.png")
    place.run("add", NAME, place.photos / "1.png", place.photos / "2.png")
    place.run("remove", "--landmark", NAMES[8])
    place.publish()
    got = Prototypes.open(place.version(2) / CONTEXT_FOLDER / PROTOTYPES_FILE)
    assert got.landmark_ids.tolist() == [3, 5, FIRST_ID + 1]
    assert got.photos.tolist() == [0, PHOTOS_EACH - 2, 2]
    new = place.embedded([(place.photos / f"{n}.png").read_bytes() for n in (1, 2)])
    means = [vectors[fifth[2:]].sum(axis=0), new.sum(axis=0)]
    wanted = [np.eye(vectors.shape[1])[0], *(mean / np.linalg.norm(mean) for mean in means)]
    np.testing.assert_allclose(got.vectors, wanted, atol=near)
    opened = PhotoIndex.open(place.version(2)).search(new, 3)
    assert np.sort(opened.landmark_ids, axis=1).tolist() == [[3, FIRST_ID + 1, FIRST_ID + 1]] * 2


def test_an_index_that_cannot_remove_says_so_and_still_adds(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    _, entries = with_prototypes(place, "HNSW8")
    place.run("add", NAME, place.photos)
    assert place.answers(place.publish(), [query(NEW)])["landmark_id"].tolist() == [[FIRST_ID]]
    place.run("remove", "--photo", as_image_id(int(entries.image_ids[0])))
    assert place.run("publish", "--no-reload") == 2
    assert "cannot remove photos; set index.type" in capsys.readouterr().err
    assert numbers(place.tiny.repository) == [1, 2]


def test_back_and_forth(place: Place) -> None:
    """Each step has a number of its own, and the content of an earlier one, linked."""
    contents = {1: data_files(place.version(1))}

    def published(number: int, *arguments: str) -> dict[str, bytes]:
        assert place.publish("--keep", "9", *arguments) == number
        return data_files(place.version(number))

    place.run("add", NAME, place.photos)
    contents[2] = published(2)
    place.run("remove", "--landmark", NAMES[8])
    contents[3] = published(3)
    assert published(4, "--back") == contents[2]
    assert (place.version(4) / INDEX_FILE).samefile(place.version(2) / INDEX_FILE)
    shutil.rmtree(place.version(2))
    assert published(5, "--version", "3") == contents[3]
    assert published(6, "--back") == contents[2]  # 4 still has it
    assert published(7, "--back") == contents[1]
    assert place.run("publish", "--no-reload", "--back") == 2  # nothing is before the first
    assert place.run("publish", "--no-reload", "--version", "17") == 2
    assert published(8) == contents[3]  # the gallery is as it was


def test_back_is_to_what_was_served_not_to_what_was_taken_back(place: Place) -> None:
    place.run("add", NAME, place.photos)
    wanted = data_files(place.version(place.publish()))
    place.run("remove", "--landmark", NAMES[8])
    assert place.publish() == 3
    assert place.publish("--back") == 4
    place.run("remove", "--landmark", NAMES[5])
    assert place.publish() == 5
    assert data_files(place.version(place.publish("--back"))) == wanted


def test_old_versions_stay_where_no_server_is_told_unless_it_is_said(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server may still serve any of them."""
    for _ in range(4):
        place.publish()
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert place.run("publish", "--server-folder", place.photos, "--keep", "1") == 0  # no server runs from there
    assert numbers(place.tiny.repository) == [1, 2, 3, 4, 5, 6]
    place.publish("--keep", "2")
    assert numbers(place.tiny.repository) == [1, 6, 7]


def test_a_publish_that_was_killed_leaves_no_half_version(place: Place) -> None:
    """At the last step before the name is given."""
    place.run("add", NAME, place.photos)
    place.run_killed("cairn.gallery.building.Retriever", "publish", "--no-reload")
    assert numbers(place.tiny.repository) == [1]
    assert (place.tiny.repository / "retrieve" / ".2.aside" / INDEX_FILE).exists()
    assert place.publish() == 2
    assert not (place.tiny.repository / "retrieve" / ".2.aside").exists()


def test_another_export_retires_what_was_published(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    repository = place.tiny.repository
    place.publish()
    place.publish()
    assert retire(repository) == []
    rule = read_json(place.version(1) / "answer.json")
    write_json(place.version(1) / "answer.json", {**rule, "threshold": 1.0})
    check_versions(repository)  # an older index of the same network can still be served
    assert retire(repository) == [2, 3]
    assert "version 2, 3, of an older export; `cairn publish` makes it anew" in capsys.readouterr().out
    assert numbers(repository) == [1]
    assert place.publish() == 4  # a number is never given twice


def test_the_export_stage_retires_what_is_of_another_index(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = place.tiny.repository
    monkeypatch.chdir(repository.parent)
    made = repository.parent / "made"
    shutil.copytree(place.version(1), made)
    how = Preprocessing.model_validate_json((repository / "preprocess" / "1" / "preprocess.json").read_text())
    network = shutil.copy(repository / "embed" / "1" / "model.onnx", made / "network.onnx")
    place.publish()
    export_again = partial(export.place, network, network, how, made, made / "landmarks.parquet", made)
    export_again()
    assert numbers(repository) == [1, 2]  # the same export: what was published is still for it
    write_index(made_index(np.eye(18, 32, dtype=np.float32), np.arange(18)), made / INDEX_FILE)
    export_again()
    assert numbers(repository) == [1]


def test_a_version_of_another_network_is_refused(place: Place) -> None:
    repository = place.tiny.repository
    place.publish()
    place.publish()
    network = repository / "embed" / "1" / "model.onnx"
    old = network_hash(repository)
    network.write_bytes(network.read_bytes() + b"\x72\x00")  # an empty field more: the same network, other bytes
    assert network_hash(repository) != old
    with pytest.raises(GalleryError, match=r"retrieve/3: made for another network .*; run `cairn publish`"):
        check_versions(repository)
    with pytest.raises(ServerError, match=r"retrieve/3: made for another network"):
        check_repository(repository, "python")
    assert place.run("publish", "--no-reload", "--version", "2") == 2
    assert place.publish() == 4
    check_versions(repository)


def test_a_version_of_an_older_cairn_is_refused(place: Place) -> None:
    place.publish()
    code = place.version(1) / "model.py"
    code.write_text(code.read_text() + "# newer\n")
    with pytest.raises(GalleryError, match=r"retrieve/2/model.py: not the code of this Cairn; run `cairn publish`"):
        check_versions(place.tiny.repository)
    place.publish("--version", "2")
    check_versions(place.tiny.repository)


def test_vectors_are_kept_for_each_network(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.run("add", NAME, place.photos)
    place.publish()
    (kept,) = (place.gallery / "embeddings").iterdir()

    def never(*_: object) -> None:
        raise AssertionError("embedded again")

    with monkeypatch.context() as patch:
        patch.setattr("cairn.gallery.embeddings.OnnxEmbedder", never)
        place.publish()
    how = place.tiny.repository / "preprocess" / "1" / "preprocess.json"
    how.write_text(json.dumps({**json.loads(how.read_text()), "fit": "centre"}))
    place.publish()
    assert len(list((place.gallery / "embeddings").iterdir())) == 2
    assert kept.exists()


def test_a_new_export_may_bring_the_landmark_itself(place: Place) -> None:
    """By then the pipeline knows the name: its id counts, not the gallery's."""
    place.run("add", NAME, place.photos)
    table = read_landmarks(place.version(1))
    names = [NAME if name == NAMES[8] else name for name in table["name"].to_pylist()]
    write_landmarks(place.version(1), table.set_column(1, "name", [names]))
    got = place.answers(place.publish(), [query(NEW)])
    assert got["landmark_id"].tolist() == [[8]]


def test_an_index_without_a_photo_is_not_published(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    for name in NAMES.values():
        place.run("remove", "--landmark", name)
    assert place.run("publish", "--no-reload") == 2
    assert "no photo would be left in the index" in capsys.readouterr().err


def test_a_damaged_export_is_refused_by_name(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    (place.tiny.repository / "preprocess" / "1" / "preprocess.json").write_text("{")
    assert place.run("add", NAME, place.photos) == 2
    assert "preprocess/1/preprocess.json: the file: Invalid JSON" in capsys.readouterr().err
    (place.version(1) / "answer.json").write_text("{")
    assert place.run("publish", "--no-reload") == 2
    assert "retrieve/1/answer.json: the file: Invalid JSON" in capsys.readouterr().err
    assert numbers(place.tiny.repository) == [1]


def test_a_network_that_is_only_noted_is_known_by_its_note(place: Place) -> None:
    network = place.tiny.repository / "embed" / "1" / "model.onnx"
    wanted, note = network_hash(place.tiny.repository), network.with_name("network.json")
    network.unlink()
    with pytest.raises(GalleryError, match=r"network.json: no such file; run `make repro`"):
        network_hash(place.tiny.repository)
    note.write_text(json.dumps({"fp32": wanted, "fp16": "ab" * 32}))
    assert network_hash(place.tiny.repository) == wanted
    note.write_text("{}")
    with pytest.raises(GalleryError, match=r"network.json: fp32: Field required; run `make repro`"):
        network_hash(place.tiny.repository)


def test_two_at_once_are_refused(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    with locked(place.gallery):
        assert place.run("add", NAME, place.photos) == 2
        assert place.run("publish", "--no-reload") == 2
    assert "held by another `cairn add`, `remove` or `publish`" in capsys.readouterr().err
    with locked(place.tiny.repository / "retrieve"):
        assert place.run("publish", "--no-reload") == 2
    assert not list(place.gallery.glob("[0-9]*"))
    assert place.run("add", NAME, place.photos) == 0


@pytest.mark.parametrize("missing", ["certificate", "network"])
def test_what_the_server_cannot_be_told_without_is_missed_before_anything_is_written(
    place: Place, missing: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only a plan is deployed there is no network, and publishing what was needs none but to ask the server."""
    place.publish()
    network = place.tiny.repository / "embed" / "1" / "model.onnx"
    monkeypatch.setenv(KEY_VARIABLE, "k" * 16)
    if missing == "certificate":
        monkeypatch.setenv(CERTIFICATE_VARIABLE, "/no/such/ca.pem")
        said = "/no/such/ca.pem: cannot be read (No such file or directory); the server's certificate"
    else:
        note = {"fp32": network_hash(place.tiny.repository), "fp16": "ab" * 32}
        network.with_name("network.json").write_text(json.dumps(note))
        network.unlink()
        said = f"{network}: no such file; run `make repro`"
    for way in (["--server", "127.0.0.1:1"], ["--server-folder", str(place.photos)]):
        assert place.run("publish", "--back", *way) == 2
        assert said in capsys.readouterr().err
    assert numbers(place.tiny.repository) == [1, 2]


def test_no_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", "--repository", str(tmp_path / "none"), "--gallery", str(tmp_path / "gallery")]) == 2
    assert "run `make repro`, which exports it" in capsys.readouterr().err
