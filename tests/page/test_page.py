"""The page in a real browser, before a real server: photos in, answers, neighbours and lines out, and every refusal."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

import pytest
from nicegui import background_tasks, ui
from nicegui.elements.upload_files import SmallFileUpload
from nicegui.testing.user_simulation import user_simulation
from playwright.sync_api import Browser, FileChooser, Locator, Page, expect, sync_playwright
from serving.tiny_repository import NAMES, Tiny

from cairn.client import AsyncClient, Client
from cairn.client.main import main
from cairn.page import view
from cairn.page.asking import SHOWN
from cairn.serving.server import LOOPBACK, default_server_env, free_ports, started

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LIMIT_MB = 0.5
WAIT_S = 60.0

expect.set_options(timeout=1000 * WAIT_S)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("no Chromium to look at the page with; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"], timeout=180_000)
        yield browser
        browser.close()


@contextmanager
def served(server: str) -> Iterator[str]:
    """`cairn page` in a process of its own, asking `server`; gives host:port."""
    address = f"{LOOPBACK}:{free_ports().http}"
    port = address.partition(":")[2]
    options = ["--server", server, "--port", port, "--max-photo-mb", str(LIMIT_MB)]
    ordinary = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}  # NiceGUI looks
    command = [sys.executable, "-m", "cairn.client.main", "page", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ordinary)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"The page is at http://{address} and asks the server at {server}\n"
        yield address
    finally:
        process.terminate()
        process.communicate(timeout=WAIT_S)


@pytest.fixture(scope="module")
def address(tiny_server: str) -> Iterator[str]:
    with served(tiny_server) as address:
        yield address


def test_an_answer_that_comes_too_late_for_its_card_leaves_nothing(
    tiny: Tiny, tiny_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three photos at once, room for one card: of the page's elements in memory, all are still on the page."""
    monkeypatch.setattr(view, "MOST_CARDS", 1)

    async def late() -> tuple[set[ui.element], set[ui.element]]:
        asking = AsyncClient(tiny_server, WAIT_S)
        async with user_simulation(partial(view.show, lambda: asking, LIMIT_MB)) as user:
            page = await user.open("/")
            (upload,) = user.find(ui.upload).elements
            photos = (tiny.known[3], b"no photo", tiny.known[5])
            before = set(background_tasks.running_tasks)
            await upload.handle_uploads([SmallFileUpload("a.png", "image/png", photo) for photo in photos])
            await asyncio.gather(*background_tasks.running_tasks - before)
            await user.should_see(NAMES[5])
        await asking.close()
        return set(page.elements.values()), set(page.layout.descendants(include_self=True))

    held, shown = asyncio.run(late())
    assert held == shown


@contextmanager
def opened(browser: Browser, address: str, errors_logged: int = 0) -> Iterator[Page]:
    """The page, which must ask nobody but its own server and log no error, or only so many."""
    context = browser.new_context()
    page = context.new_page()
    elsewhere: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: None if _own(request.url, address) else elsewhere.append(request.url))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    end = time.monotonic() + WAIT_S
    while True:
        try:
            page.goto(f"http://{address}")
            break
        except Exception:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    yield page
    assert elsewhere == []
    assert len(errors) == errors_logged, errors
    context.close()


def _own(url: str, address: str) -> bool:
    return url.startswith((f"http://{address}/", f"ws://{address}/", f"blob:http://{address}/", "data:"))


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    with opened(browser, address) as page:
        yield page


def upload(page: Page, *photos: tuple[str, bytes]) -> None:
    files = [{"name": name, "mimeType": "image/png", "buffer": content} for name, content in photos]
    page.locator("input[type=file]").set_input_files(files)  # type: ignore[arg-type]


def card(page: Page, title: str) -> Locator:
    """The one under a title, once it is there."""
    found = page.locator("article").filter(has=page.get_by_role("heading", level=2, name=title, exact=True))
    expect(found).to_be_visible()
    return found


def test_an_answer_its_neighbours_and_where_they_match(page: Page, tiny: Tiny, tiny_server: str) -> None:
    with Client(tiny_server, WAIT_S) as client:
        verified = client.verify(tiny.known[5], SHOWN)
    upload(page, ("tower.png", tiny.known[5]))
    found = card(page, NAMES[5])  # which has a tag in it
    assert verified.answer.probability is not None
    expect(found.locator(".probability")).to_have_text(
        f"Probability that it is right: {verified.answer.probability:.0%}"
    )
    expect(found.get_by_text("tower.png, score")).to_contain_text("index version 1")

    nearest = found.get_by_role("listitem")
    expect(nearest).to_have_count(SHOWN)
    for position, (near, inliers) in enumerate(zip(verified.answer.neighbours, verified.inliers, strict=False)):
        if position < SHOWN:
            expect(nearest.nth(position).locator(".name")).to_have_text(near.landmark)
            expect(nearest.nth(position)).to_contain_text(near.attribution)
            expect(nearest.nth(position)).to_contain_text(f"Likeness {near.score:.2f}")
            expect(nearest.nth(position).locator(".points")).to_have_text(re.compile(rf"^{inliers} matching points?$"))

    counts = [number or 0 for number in verified.inliers[:SHOWN]]
    best = counts.index(max(counts))
    assert counts[best] > 0
    expect(found.locator("[aria-pressed=true]")).to_have_count(1)
    for position in (best, counts.index(min(counts))):
        button = nearest.nth(position).get_by_role("button")
        if position != best:
            button.focus()
            page.keyboard.press("Enter")
        expect(button).to_have_attribute("aria-pressed", "true")
        expect(found.locator("svg.matches circle")).to_have_count(2 * counts[position])
        expect(found.locator("svg.matches image")).to_have_count(2)


def test_no_landmark_is_said_plainly(page: Page, tiny: Tiny) -> None:
    upload(page, ("field.png", tiny.unknown))
    found = card(page, "No landmark")
    expect(found.locator(".probability")).to_contain_text("Probability of the best landmark, which is too low: ")


def test_several_photos_in_a_row_and_a_broken_one_among_them(page: Page, tiny: Tiny) -> None:
    awkward = "<img src=x onerror=alert(1)>.png"
    upload(page, ("a.png", tiny.known[3]), (awkward, b"no photo"), ("c.png", tiny.known[8]))
    for name in (NAMES[3], NAMES[8]):
        card(page, name)
    refused = page.get_by_role("alert")
    expect(refused.get_by_role("heading")).to_have_text(f"{awkward} was refused")
    expect(refused).to_contain_text("Not an image of a known format (JPEG, PNG,")
    upload(page, ("d.png", tiny.unknown))
    card(page, "No landmark")
    expect(page.get_by_role("heading", level=2).first).to_have_text("No landmark")  # the latest stands on top
    expect(page.get_by_role("heading", level=2)).to_have_count(4)


def test_dropped_files_are_asked_about(page: Page, tiny: Tiny) -> None:
    transfer = page.evaluate_handle(
        """content => {
            const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], "dropped.png", {type: "image/png"}));
            return transfer;
        }""",
        base64.b64encode(tiny.known[8]).decode(),
    )
    page.dispatch_event(".q-uploader", "dragover", {"dataTransfer": transfer})
    page.dispatch_event(".q-uploader__dnd", "drop", {"dataTransfer": transfer})
    expect(card(page, NAMES[8])).to_contain_text("dropped.png")


def test_too_large_a_file_is_not_sent(page: Page, tiny: Tiny) -> None:
    upload(page, ("a.png", tiny.known[3]), ("large.png", bytes(round(LIMIT_MB * 1e6) + 1)))
    alert = page.get_by_role("alert")
    expect(alert.get_by_role("heading")).to_have_text("large.png was not sent")
    expect(alert).to_contain_text("Over the limit of 0.5 MB")
    card(page, NAMES[3])


def test_an_upload_that_breaks_off_is_told(browser: Browser, address: str, tiny: Tiny) -> None:
    with opened(browser, address, errors_logged=1) as page:
        page.route("**/upload/**", lambda route: route.abort())
        upload(page, ("a.png", tiny.known[3]))
        expect(page.get_by_role("alert")).to_contain_text("The upload broke off; try again.")


@pytest.mark.parametrize(("headers", "status"), [({"Content-Length": "9000000"}, 413), ({}, 411)])
def test_the_limit_holds_without_a_browser(address: str, headers: dict[str, str], status: int) -> None:
    connection = HTTPConnection(address, timeout=WAIT_S)
    connection.putrequest("POST", "/_nicegui/client/x/upload/1")
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == status
    connection.close()


def test_it_is_worked_with_the_keyboard_and_pictures_are_described(page: Page, tiny: Tiny) -> None:
    choosers: list[FileChooser] = []
    keep: Callable[[FileChooser], None] = lambda chooser: choosers.append(chooser)  # noqa: E731, PLW0108
    page.on("filechooser", keep)  # from now on: asked for later, it may be missed
    page.keyboard.press("Tab")
    for landmark, key in ((3, "Enter"), (8, "Space")):
        expect(page.get_by_role("button", name="Choose photos")).to_be_focused()  # an answer does not take the focus
        page.keyboard.press(key)
        end = time.monotonic() + WAIT_S
        while not choosers and time.monotonic() < end:
            page.wait_for_timeout(50)
        choosers.pop().set_files({"name": "a.png", "mimeType": "image/png", "buffer": tiny.known[landmark]})
        found = card(page, NAMES[landmark])
    expect(found.get_by_role("img", name="The photo asked about: a.png")).to_be_visible()
    expect(found.get_by_role("img", name=re.compile("matching points? between a.png and a photo of"))).to_be_visible()
    expect(found.get_by_role("meter")).to_have_count(1)
    assert page.locator("img:not([alt])").count() == 0
    assert page.locator("html").get_attribute("lang") == "en-US"


def asked_until_answered(page: Page, photo: bytes, title: str) -> Locator:
    """gRPC looks each second whether a server is back, so one that has just come may still be missed."""
    heading = page.get_by_role("heading", level=2, name=title, exact=True)
    for tries in range(round(WAIT_S)):
        name = f"{tries}.png"
        upload(page, (name, photo))
        failed = page.get_by_role("heading", level=2, name=f"No answer for {name}", exact=True)
        expect(heading.or_(failed)).to_be_visible()
        if heading.count():
            break
        page.wait_for_timeout(1000)
    return card(page, title)


def test_a_server_that_is_away_and_one_without_photos(browser: Browser, tiny: Tiny, tmp_path: Path) -> None:
    ports = free_ports()
    server = f"{LOOPBACK}:{ports.grpc}"
    with served(server) as address, opened(browser, address) as page:
        upload(page, ("a.png", tiny.known[3]))
        alert = page.get_by_role("alert")
        expect(alert.get_by_role("heading")).to_have_text("No answer for a.png")
        expect(alert).to_contain_text(f"{server}: no server answers there; start one with `make serve`")
        with started(tiny.repository, default_server_env(), tmp_path, ports, LOOPBACK):
            found = asked_until_answered(page, tiny.known[3], NAMES[3])
            expect(found).to_contain_text("They cannot be shown: ")
            expect(found).to_contain_text(
                "this server was not given the index's photos; start the server with --photos"
            )
            expect(found.get_by_role("listitem")).to_have_count(SHOWN)
            expect(found.get_by_role("img")).to_have_count(1)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--port", "1000000"], "bind(): port must be 0-65535."),
        (["--max-photo-mb", "0"], "max_photo_mb = 0.0: a number over 0 is needed"),
        (["--tls-ca", "missing.pem"], "missing.pem: no such file; TLS takes PEM files"),
        ([], "{address}: cannot listen there (Address already in use); pass --port"),
    ],
)
def test_what_keeps_it_from_being_served_is_named(
    address: str, wrong: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["page", "--port", address.partition(":")[2], *wrong]) == 2
    assert capsys.readouterr().err == f"cairn page: {said.format(address=address)}\n"
