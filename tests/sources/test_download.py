"""Downloads from a real server that cuts, refuses, lies and forgets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from sources.gldv2_layout import Manners, serve

from cairn.sources.base import SourceError
from cairn.sources.download import CHUNK, Effort, Wanted, _Work, download_all

EFFORT = Effort(workers=2, retries=3, timeout_s=10, backoff_s=0.001)
CONTENT = bytes(range(256)) * 2048  # 512 KiB
Site = tuple[Path, str, Manners]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    root = tmp_path / "server"
    root.mkdir()
    (root / "a.tar").write_bytes(CONTENT)
    (root / "a.md5").write_text(f"{hashlib.md5(CONTENT).hexdigest()}  a.tar\n")
    with serve(root) as (url, manners):
        yield tmp_path, url, manners


def get(
    site: Site, checked: bool = True, effort: Effort = EFFORT, optional: bool = False, name: str = "a.tar"
) -> bytes:
    folder, url, _ = site
    wanted = Wanted(f"{url}/{name}", folder / "got" / name, f"{url}/a.md5" if checked else None, optional)
    there = download_all([wanted], effort, "testing", "the hint")
    return wanted.target.read_bytes() if wanted.target in there else b""


def test_a_file_arrives_whole_and_leaves_nothing_else(site: Site) -> None:
    assert get(site) == CONTENT
    assert [path.name for path in (site[0] / "got").iterdir()] == ["a.tar"]


def test_what_is_there_is_not_asked_for_again(site: Site) -> None:
    get(site)
    get(site)
    assert site[2].requests == {"a.tar": 1, "a.md5": 1}


@pytest.mark.parametrize("checked", [True, False])
def test_a_cut_download_goes_on_where_it_stopped(site: Site, checked: bool) -> None:
    manners = site[2]
    manners.cut_after["a.tar"], manners.cuts["a.tar"] = 200_000, 2
    assert get(site, checked) == CONTENT
    asked = [int(wanted.removeprefix("bytes=").rstrip("-")) for path, wanted in manners.ranges if wanted]
    assert len(asked) == 2
    assert all(200_000 * n - n * CHUNK < start <= 200_000 * n for n, start in enumerate(asked, 1))
    assert len(CONTENT) <= manners.sent["a.tar"] <= len(CONTENT) + 2 * CHUNK


def test_a_killed_run_is_gone_on_with(site: Site) -> None:
    manners = site[2]
    manners.cut_after["a.tar"], manners.cuts["a.tar"] = 300_000, 1
    with pytest.raises(SourceError, match=r"given up after 0 retries.*goes on where it stopped"):
        get(site, effort=EFFORT._replace(retries=0))
    kept = (site[0] / "got" / "a.tar.part").stat().st_size
    assert 300_000 - CHUNK < kept <= 300_000
    assert get(site) == CONTENT
    assert manners.ranges[-1] == ("a.tar", f"bytes={kept}-")


def test_more_cuts_than_retries_do_no_harm_while_bytes_come(site: Site) -> None:
    manners = site[2]
    manners.cut_after["a.tar"], manners.cuts["a.tar"] = 2 * CHUNK, 6
    assert get(site, effort=EFFORT._replace(retries=1)) == CONTENT


def test_a_server_that_ignores_ranges_sends_all_again(site: Site) -> None:
    manners = site[2]
    manners.ignore_range = True
    manners.cut_after["a.tar"], manners.cuts["a.tar"] = 300_000, 2
    assert get(site) == CONTENT
    assert manners.sent["a.tar"] == 600_000 + len(CONTENT)


def test_cuts_at_one_place_without_ranges_end(site: Site) -> None:
    manners = site[2]
    manners.ignore_range = True
    manners.cut_after["a.tar"], manners.cuts["a.tar"] = 300_000, 100
    with pytest.raises(SourceError, match="given up after 3 retries"):
        get(site)
    assert manners.requests["a.tar"] == 1 + EFFORT.retries


def test_a_part_that_is_already_whole(site: Site) -> None:
    (site[0] / "got").mkdir()
    (site[0] / "got" / "a.tar.part").write_bytes(CONTENT)
    assert get(site) == CONTENT
    assert site[2].sent["a.tar"] == 0  # only status 416 was needed


@pytest.mark.parametrize("checked", [True, False])
def test_a_part_longer_than_the_file_is_begun_anew(site: Site, checked: bool) -> None:
    (site[0] / "got").mkdir()
    (site[0] / "got" / "a.tar.part").write_bytes(CONTENT + b"more")
    assert get(site, checked) == CONTENT


@pytest.mark.parametrize("ignored", [False, True])
def test_a_file_that_changed_on_the_server_is_begun_anew(site: Site, ignored: bool) -> None:
    manners = site[2]
    manners.ignore_if_range = ignored
    manners.cut_after["a.tar"], manners.cuts["a.tar"] = 300_000, 1
    with pytest.raises(SourceError):
        get(site, checked=False, effort=EFFORT._replace(retries=0))
    (site[0] / "server" / "a.tar").write_bytes(CONTENT[::-1])
    assert get(site, checked=False) == CONTENT[::-1]


@pytest.mark.parametrize("checked", [True, False])
def test_without_a_strong_tag_only_an_md5_lets_a_part_be_gone_on_with(site: Site, checked: bool) -> None:
    manners = site[2]
    manners.headers["a.tar"] = {"ETag": 'W/"1"'}
    manners.cut_after["a.tar"], manners.cuts["a.tar"] = 300_000, 1
    with pytest.raises(SourceError):
        get(site, checked, EFFORT._replace(retries=0))
    if not checked:
        (site[0] / "server" / "a.tar").write_bytes(CONTENT[::-1])
    assert get(site, checked) == (CONTENT if checked else CONTENT[::-1])
    assert (manners.ranges[-1][1] is None) == (not checked)


def test_a_wrong_part_is_found_by_its_md5(site: Site) -> None:
    (site[0] / "got").mkdir()
    (site[0] / "got" / "a.tar.part").write_bytes(b"x" * 1000)
    assert get(site) == CONTENT


def test_a_server_that_falls_silent_is_asked_again(site: Site) -> None:
    site[2].stalls["a.tar"] = 1
    assert get(site, effort=EFFORT._replace(timeout_s=3.0)) == CONTENT
    assert site[2].ranges[-1][1] is not None
    assert site[2].requests["a.tar"] == 2


def test_busy_answers_are_waited_out(site: Site) -> None:
    site[2].unavailable.update({"a.tar": 3, "a.md5": 3})
    assert get(site) == CONTENT
    assert site[2].requests == {"a.tar": 4, "a.md5": 4}


@pytest.mark.parametrize("name", ["a.tar", "a.md5"])
def test_too_busy(site: Site, name: str) -> None:
    site[2].unavailable[name] = 4
    with pytest.raises(SourceError, match=rf"{name}: given up after 3 retries \(status 503\)"):
        get(site)


def test_corrupt_once_is_fetched_again(site: Site) -> None:
    site[2].corrupt["a.tar"] = 1
    assert get(site) == CONTENT
    assert site[2].sent["a.tar"] == 2 * len(CONTENT)


def test_corrupt_always_names_both_sums(site: Site) -> None:
    site[2].corrupt["a.tar"] = 100
    found = hashlib.md5(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])).hexdigest()
    right = hashlib.md5(CONTENT).hexdigest()
    with pytest.raises(SourceError, match=rf"a\.tar: wrong md5.*{found} found, {right} wanted.*the hint"):
        get(site)
    assert site[2].requests["a.tar"] == 2
    assert list((site[0] / "got").iterdir()) == []


def test_no_md5_in_the_md5_file(site: Site) -> None:
    (site[0] / "server" / "a.md5").write_text("<html>log in first</html>")
    with pytest.raises(SourceError, match=r"a\.md5: no md5.*'<html>log in first</html>'"):
        get(site)


def test_an_md5_file_is_read_no_further_than_its_beginning(site: Site) -> None:
    with (site[0] / "server" / "a.md5").open("a") as file:
        file.write("x" * 10**6)
    site[2].cut_after["a.md5"], site[2].cuts["a.md5"] = 10_000, 100
    assert get(site) == CONTENT


@pytest.mark.parametrize("name", ["a.tar", "a.md5"])
def test_packed_content_is_refused(site: Site, name: str) -> None:
    site[2].headers[name] = {"Content-Encoding": "gzip"}
    with pytest.raises(
        SourceError, match=rf"{name}: the server packs it \('gzip'\), which it was asked not to; .*the hint"
    ):
        get(site)
    site[2].headers[name] = {"Content-Encoding": "Identity"}
    assert get(site) == CONTENT


def test_a_size_that_is_none(site: Site) -> None:
    site[2].headers["a.tar"] = {"Content-Length": "9" * 5000}
    with pytest.raises(SourceError, match=r"a\.tar: the server says Content-Length: '9{40}', which is none; the hint"):
        get(site)


@pytest.mark.parametrize("said", [f"bytes {'9' * 5000}-", f"bytes 1000-{'9' * 20}/{'9' * 5000}", "bytes -1-9/10", ""])
def test_a_range_that_is_none(site: Site, said: str) -> None:
    (site[0] / "got").mkdir()
    (site[0] / "got" / "a.tar.part").write_bytes(CONTENT[:1000])
    site[2].headers["a.tar"] = {"Content-Range": said}
    with pytest.raises(SourceError, match=r"a\.tar: the server says Content-Range: '.{0,40}', which is none; the hint"):
        get(site)


def test_a_redirect_is_followed_and_its_body_not_read(site: Site) -> None:
    site[2].redirects["b.tar"] = "a.tar"
    assert get(site, effort=EFFORT._replace(timeout_s=0.3), name="b.tar") == CONTENT


def test_a_host_that_cannot_be(tmp_path: Path) -> None:
    url = f"http://{'x' * 64}.example/a"
    with pytest.raises(SourceError, match=rf"{url}: cannot be fetched \(.*label.*\); the hint"):
        download_all([Wanted(url, tmp_path / "a")], EFFORT, "testing", "the hint")


def test_absent(site: Site) -> None:
    with pytest.raises(SourceError, match=r"b\.tar: no such file on the server \(status 404\); the hint"):
        get(site, name="b.tar")
    assert get(site, name="b.tar", optional=True) == b""
    assert site[2].requests["b.tar"] == 2  # not tried again: it would not come


def test_nobody_answers(tmp_path: Path) -> None:
    with serve(tmp_path) as (url, _):
        pass
    with pytest.raises(SourceError, match="given up after 1 retries"):
        download_all([Wanted(f"{url}/a", tmp_path / "a")], EFFORT._replace(retries=1), "testing", "the hint")


def test_a_server_says_how_long_to_wait(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    monkeypatch.setattr(_Work, "pause", lambda work, failures, asked_s: asked.append(asked_s))
    site[2].unavailable["a.tar"] = 2
    site[2].retry_after = "7"
    assert get(site) == CONTENT
    site[2].unavailable["b.tar"] = 1
    site[2].retry_after = "Wed, 21 Oct 2015 07:28:00 GMT"  # a date is not read
    assert get(site, checked=False, optional=True, name="b.tar") == b""
    assert asked == [7.0, 7.0, 0.0]


def test_no_address_at_all(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"s3/a: cannot be fetched.*the hint"):
        download_all([Wanted("s3/a", tmp_path / "a")], EFFORT, "testing", "the hint")


def test_one_failure_stops_the_others_and_keeps_what_they_have(site: Site) -> None:
    folder, url, _ = site
    names = [f"{number}.tar" for number in range(20)]
    for name in names:
        (folder / "server" / name).write_bytes(CONTENT)
    wanted = [Wanted(f"{url}/{name}", folder / "got" / name) for name in ["none.tar", *names]]
    with pytest.raises(SourceError, match=r"none\.tar"):
        download_all(wanted, EFFORT._replace(workers=1), "testing", "the hint")
    assert len(site[2].requests) <= 10  # the one that failed, and what was under way
    assert download_all(wanted[1:], EFFORT, "testing", "the hint") == {item.target for item in wanted[1:]}
    assert all(item.target.read_bytes() == CONTENT for item in wanted[1:])
