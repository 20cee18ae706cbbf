"""The page itself: a place to drop photos on, and a card for each with what the server says of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from nicegui import events, ui
from nicegui.elements.mixins.text_element import TextElement

from cairn.client import Answer, AsyncClient, PhotoError, ServerUnavailable
from cairn.page.asking import Found, Near, found
from cairn.page.drawing import Preview, matched

TITLE = "Which landmark does a photo show?"
STYLE = Path(__file__).with_name("style.css")
REJECTED = "entries => emit(entries.map(entry => [entry.file.name, entry.failedPropValidation]))"
MOST_CARDS = 20  # the oldest go: a page that stays open does not grow without end


def show(client: Callable[[], AsyncClient], max_photo_mb: float) -> None:
    """Lay out the page for one visitor; `client` gives the connection when it is needed."""
    ui.page_title("Cairn")
    ui.add_css(STYLE.read_text(encoding="utf-8"))
    with ui.element("div").classes("page"):  # within NiceGUI's <main>
        _words("h1", TITLE)
        _words(
            "p", f"Photos of up to {max_photo_mb:g} MB. They go to the landmark server and are kept nowhere.", "quiet"
        )
        upload = ui.upload(multiple=True, auto_upload=True, max_file_size=round(max_photo_mb * 1e6))
        _choose(upload)
        cards = ui.element("section").classes("results").props('aria-live=polite aria-label="Answers"')
    upload.on_upload(partial(_look, client, cards, upload))
    upload.on("rejected", lambda event: _refuse(cards, event.args, max_photo_mb), js_handler=REJECTED)
    upload.on("failed", lambda: _fail(_card(cards), "Not sent", "The upload broke off; try again."))


def _choose(upload: ui.upload) -> None:
    """Make of the uploader's head a place to drop files on, with a button that says what it does.

    No template, as NiceGUI's examples have: its contents are made anew whenever anything changes, and lose the focus.
    """
    with upload.add_slot("header"), ui.element("div").classes("drop"):
        button = ui.button("Choose photos", color=None).props("no-caps unelevated")
        button.on("click", js_handler=f"event => getElement({upload.id}).$refs.qRef.pickFiles(event)")
        _words("span", "or drop them here")
        ui.element("q-uploader-add-trigger")


async def _look(
    client: Callable[[], AsyncClient], cards: ui.element, upload: ui.upload, event: events.UploadEventArguments
) -> None:
    """Ask about one photo and put the answer on top."""
    name = event.file.name
    card = _card(cards)
    with card:
        _words("p", f"Asking about {name} ...")
    upload.run_method("removeUploadedFiles")
    put = await _asked(client(), name, await event.file.read())
    if not card.is_deleted:  # newer cards may have taken its place by now; what is drawn into it would stay for good
        put(card)


async def _asked(client: AsyncClient, name: str, photo: bytes) -> Callable[[ui.element], None]:
    """Ask about a photo; what puts the outcome on its card."""
    try:
        answered = await found(client, photo)
    except PhotoError as error:
        return partial(_fail, title=f"{name} was refused", reason=str(error))
    except ServerUnavailable as error:
        return partial(_fail, title=f"No answer for {name}", reason=str(error))
    return partial(_succeed, name=name, answered=answered)


def _succeed(card: ui.element, name: str, answered: Found) -> None:
    card.clear()
    with card:
        _draw(name, answered)


def _card(cards: ui.element) -> ui.element:
    """A new one on top."""
    with cards:
        card = ui.element("article")
    card.move(target_index=0)
    for old in list(cards)[MOST_CARDS:]:
        old.delete()
    return card


def _refuse(cards: ui.element, rejected: list[tuple[str, str]], max_photo_mb: float) -> None:
    """Files that the browser did not send: too large, or on their way already."""
    for name, why in rejected:
        large = why == "max-file-size"
        _fail(
            _card(cards), f"{name} was not sent", f"over the limit of {max_photo_mb:g} MB" if large else "sent already"
        )


def _fail(card: ui.element, title: str, reason: str) -> None:
    card.clear()
    card.classes("failed").props("role=alert")
    with card:
        _words("h2", title)
        _words("p", f"{reason[:1].upper()}{reason[1:]}")


def _draw(name: str, answered: Found) -> None:
    with ui.element("div").classes("head"):
        _photo(answered.photo, f"The photo asked about: {name}")
        with ui.element("div").classes("said"):
            _say(name, answered.answer)
    if not answered.nearest:
        return
    with ui.element("div").classes("part"):
        _words("h3", "The nearest photos of the index")
        if answered.note:
            _words("p", f"They cannot be shown: {answered.note}", "quiet")
        buttons = _nearest(answered.nearest)
    if answered.photo is None or all(near.preview is None for near in answered.nearest):
        return
    with ui.element("div").classes("part"):
        _words("h3", "Where they match")
        caption = _words("p", "", "quiet")
        picture = ui.html("", sanitize=False)  # numbers, encoded photos and one escaped text

    def choose(position: int) -> None:
        near = answered.nearest[position]
        for other, button in enumerate(buttons):
            button.props["aria-pressed"] = "true" if other == position else "false"
        said = f"{_points(near)} between {name} and a photo of {near.neighbour.landmark}"
        caption.set_text(said)
        if answered.photo is not None and near.preview is not None:
            picture.set_content(matched(answered.photo, near.preview, near.matches, said))

    for position, button in enumerate(buttons):
        button.on("click", partial(choose, position))
    choose(max(range(len(buttons)), key=lambda position: answered.nearest[position].inliers or 0))


def _say(name: str, answer: Answer) -> None:
    _words("h2", answer.landmark or "No landmark")
    if answer.landmark is None:
        _words("p", "No landmark of the index, or none that could be told surely enough.")
    if answer.probability is not None:
        what = "that it is right" if answer.landmark else "of the best landmark, which is too low"
        said = f"Probability {what}: {answer.probability:.0%}"
        _words("p", said, "probability")
        meter = ui.element("meter")
        meter.props["value"], meter.props["aria-label"] = f"{answer.probability:.3f}", said
    _words("p", f"{name}, score {answer.score:.2f}, index version {answer.index_version}", "quiet")


def _nearest(nearest: list[Near]) -> list[ui.element]:
    """A button for each photo, that chooses it."""
    buttons = []
    with ui.element("ul").classes("nearest"):
        for near in nearest:
            with ui.element("li"), ui.element("button").props("type=button") as button:
                _photo(near.preview, f"A photo of {near.neighbour.landmark}")
                _words("span", near.neighbour.landmark, "name")
                _words("span", f"Likeness {near.neighbour.score:.2f}", "quiet")
                _words("span", _points(near), "quiet points")
                _words("span", near.neighbour.attribution, "quiet")
            buttons.append(button)
    return buttons


def _points(near: Near) -> str:
    if near.inliers is None:
        return "not compared"
    return "1 matching point" if near.inliers == 1 else f"{near.inliers} matching points"


def _photo(photo: Preview | None, said: str) -> None:
    if photo is not None:
        picture = ui.element("img")
        picture.props["src"], picture.props["alt"] = photo.url, said


def _words(tag: str, text: str, kind: str = "") -> TextElement:
    """Text, which NiceGUI escapes."""
    return TextElement(tag=tag, text=text).classes(kind)
