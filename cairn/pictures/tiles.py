"""The parts of a sheet of photos: a photo in its square, a border and mark that say right or wrong, a caption."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from cairn.pictures.style import GROUND, INK, PAPER, QUIET, RIGHT, RULE, WRONG, font

PHOTO = 168  # pixels, the square a photo is fitted into
BORDER = 4
TILE = PHOTO + 2 * BORDER
GAP = 14  # between tiles
MARGIN = 24  # around the sheet
CAPTION_SIZE = 13
CAPTION_LINE = 17
CAPTION_LINES = 3
TILE_HEIGHT = TILE + 6 + CAPTION_LINES * CAPTION_LINE
MARK = 30


class Tile(NamedTuple):
    """A photo (None: it cannot be opened), what to write below it, and whether it is right (None: neither)."""

    image: Image.Image | None
    caption: str
    right: bool | None = None


def blank_sheet(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """A white sheet and the pen that draws on it."""
    sheet = Image.new("RGB", (width, height), PAPER)
    return sheet, ImageDraw.Draw(sheet)


def draw_title(pen: ImageDraw.ImageDraw, width: int, title: str) -> None:
    """Write a sheet's title, cut short where the sheet ends."""
    face = font(20, bold=True)
    pen.text((MARGIN, MARGIN), shortened(title, face, width - 2 * MARGIN), fill=INK, font=face, anchor="lt")


def draw_tile(sheet: Image.Image, pen: ImageDraw.ImageDraw, left: int, top: int, tile: Tile) -> None:
    """Draw a tile, TILE pixels wide and TILE_HEIGHT high, with its upper left corner at (left, top)."""
    colour = {None: RULE, True: RIGHT, False: WRONG}[tile.right]
    pen.rectangle((left, top, left + TILE - 1, top + TILE - 1), fill=GROUND, outline=colour, width=BORDER)
    if tile.image is None:
        note = font(CAPTION_SIZE)
        middle = (left + TILE / 2, top + TILE / 2)
        pen.text(middle, "cannot be opened", fill=QUIET, font=note, anchor="mm")
    else:
        photo = fitted(tile.image)
        corner = (left + BORDER + (PHOTO - photo.width) // 2, top + BORDER + (PHOTO - photo.height) // 2)
        sheet.paste(photo, corner)
    if tile.right is not None:
        badge = _mark(tile.right)
        sheet.paste(badge, (left + TILE - MARK - BORDER - 2, top + BORDER + 2), badge)
    for number, line in enumerate(caption_lines(tile.caption)):
        pen.text((left, top + TILE + 6 + number * CAPTION_LINE), line, fill=INK, font=font(CAPTION_SIZE))


def fitted(image: Image.Image, side: int = PHOTO) -> Image.Image:
    """The whole photo as RGB, its longer side `side` pixels."""
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def caption_lines(caption: str) -> list[str]:
    """At most CAPTION_LINES lines as wide as a tile: a long first paragraph is wrapped, the others are cut short."""
    first, *rest = caption.split("\n")
    rest = rest[: CAPTION_LINES - 1]
    return wrapped(first, font(CAPTION_SIZE), TILE, CAPTION_LINES - len(rest)) + [
        shortened(line, font(CAPTION_SIZE), TILE) for line in rest
    ]


def wrapped(text: str, face: ImageFont.FreeTypeFont, width: int, lines: int) -> list[str]:
    """`text` broken at spaces into at most `lines` lines of `width` pixels, the last cut short if need be."""
    made = [""]
    for word in text.split():
        longer = f"{made[-1]} {word}".lstrip()
        if not made[-1] or len(made) == lines or face.getlength(longer) <= width:
            made[-1] = longer
        else:
            made.append(word)
    return [shortened(line, face, width) for line in made]


def shortened(text: str, face: ImageFont.FreeTypeFont, width: int) -> str:
    """`text`, or as much of its start as fits into `width` pixels with an ellipsis."""
    if face.getlength(text) <= width:
        return text
    kept = text
    while kept and face.getlength(kept + "…") > width:
        kept = kept[:-1]
    return kept.rstrip() + "…"


@cache
def _mark(right: bool) -> Image.Image:
    """A disc with a tick or a cross, for readers who do not see the colours: drawn large, then made smooth."""
    large = 4 * MARK
    disc = Image.new("RGBA", (large, large), (255, 255, 255, 0))
    pen = ImageDraw.Draw(disc)
    pen.ellipse((2, 2, large - 3, large - 3), fill=RIGHT if right else WRONG, outline=PAPER, width=8)
    strokes = [((34, 64), (54, 84), (88, 42))] if right else [((40, 40), (80, 80)), ((80, 40), (40, 80))]
    for stroke in strokes:
        pen.line(stroke, fill=PAPER, width=13, joint="curve")
    return disc.resize((MARK, MARK), Image.Resampling.LANCZOS)
