"""Families of landmarks: each builds a fixed composition of solids from seeded choices.

A twin repeats another landmark's choices with small changes, so that telling the two apart takes detail.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from cairn.sources.synthetic.solids import (
    Colour,
    Face,
    Flat,
    Mesh,
    Paint,
    Point,
    Solid,
    box,
    lathe,
    mesh_of,
    moved,
    on_box,
    on_lathe,
    opening,
    prism,
    slab,
    turned,
)

T = TypeVar("T")

SIZE = 10.0  # a landmark's height, or 0.7 of its width if that is more
TWIN_SHARE = 0.4  # of landmarks that resemble another one

STONES: list[Colour] = [
    (0.72, 0.66, 0.55),
    (0.62, 0.58, 0.53),
    (0.75, 0.60, 0.43),
    (0.60, 0.40, 0.30),
    (0.52, 0.52, 0.54),
    (0.80, 0.78, 0.73),
    (0.66, 0.52, 0.44),
    (0.58, 0.56, 0.44),
]
ROOFS: list[Colour] = [
    (0.45, 0.22, 0.16),
    (0.28, 0.30, 0.34),
    (0.30, 0.45, 0.38),
    (0.62, 0.48, 0.20),
    (0.35, 0.26, 0.20),
    (0.26, 0.34, 0.48),
]


class Chooser:
    """Seeded choices. With `tweak`, the same choices a little changed."""

    def __init__(self, seed: np.random.SeedSequence, tweak: np.random.SeedSequence | None = None) -> None:
        self._rng = np.random.default_rng(seed)
        self._tweak = np.random.default_rng(tweak) if tweak is not None else None

    def between(self, low: float, high: float) -> float:
        """A number from low to high."""
        value = float(self._rng.uniform(low, high))
        if self._tweak is not None:
            value += float(self._tweak.normal(0, 0.22)) * (high - low)
        return min(max(value, low), high)

    def count(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        value = int(self._rng.integers(low, high + 1))
        if self._tweak is not None and self._tweak.random() < 0.3:
            value += int(self._tweak.choice([-1, 1]))
        return min(max(value, low), high)

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        index = int(self._rng.integers(len(options)))
        if self._tweak is not None and self._tweak.random() < 0.2:
            index = int(self._tweak.integers(len(options)))
        return options[index]

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.between(0, 1) < probability


class Style(NamedTuple):
    """The paints a landmark is built in."""

    wall: Paint
    trim: Paint
    roof: Paint
    hole: Paint  # windows and doors
    window: str  # an opening's shape


def landmark_mesh(kind: str, chooser: Chooser) -> Mesh:
    """The landmark of a family (a key of FAMILIES), standing around (0, 0) and of SIZE."""
    solids = FAMILIES[kind](chooser, _style(chooser))
    return fitted(solids)


def fitted(solids: list[Solid]) -> Mesh:
    """Solids as a mesh of SIZE."""
    corners = np.array([point for solid in solids for face in solid for point in face.outline])
    width = float(np.abs(corners[:, :2]).max()) * 2
    return mesh_of(solids, SIZE / max(float(corners[:, 2].max()), 0.7 * width))


def _style(c: Chooser) -> Style:
    wall = _shifted(c.pick(STONES), c)
    brick = c.pick([(0.0, 0.0), (0.9, 0.45), (0.6, 0.3), (1.3, 0.65)])
    mortar = c.between(0.1, 0.4)
    grain = c.between(0.05, 0.25)
    bright = c.between(0.75, 1.3)
    trim = (min(wall[0] * bright, 0.9), min(wall[1] * bright, 0.9), min(wall[2] * bright, 0.9))
    shade = c.between(0.06, 0.16)
    return Style(
        wall=Paint(wall, brick, mortar, grain),
        trim=Paint(trim, grain=grain),
        roof=Paint(_shifted(c.pick(ROOFS), c), (0.4, 0.35), 0.22, 0.1),
        hole=Paint((shade, shade, shade * 1.15), grain=0.05, glow=True),
        window=c.pick(["rect", "round", "pointed"]),
    )


def _shifted(colour: Colour, c: Chooser) -> Colour:
    red, green, blue = (min(max(value * c.between(0.88, 1.12), 0.05), 0.9) for value in colour)
    return red, green, blue


def _windows(
    low: Point, high: Point, sides: Sequence[int], columns: int, rows: int, style: Style, tall: float
) -> Solid:
    """A grid of windows on some sides of a box; `tall` is a window's height as a share of its row."""
    wide = {0: high[0] - low[0], 1: high[1] - low[1]}
    rise = (high[2] - low[2]) / rows
    faces = []
    for side in sides:
        pitch = wide[side % 2] / columns
        shape = opening(style.window, min(pitch * 0.5, rise * tall * 0.8), rise * tall)
        for row in range(rows):
            up = (row + (1 - tall) / 2) / rows
            faces += [on_box(low, high, side, (k + 0.5) / columns, up, shape, style.hole) for k in range(columns)]
    return faces


def _columns(places: Sequence[Flat], radius: float, bottom: float, top: float, c: Chooser, style: Style) -> list[Solid]:
    slim = c.between(0.75, 1.0)
    cap = (top - bottom) * 0.06
    solids = []
    for at in places:
        profile = [(radius, bottom), (radius * slim, top - cap), (radius * 1.3, top)]
        solids.append(lathe(profile, 6, style.trim, at))
    return solids


def _gable(width: float, depth: float, bottom: float, rise: float, style: Style, front: Paint) -> Solid:
    """A roof whose ridge runs along y."""
    half = width / 2
    return prism([(-half, bottom), (half, bottom), (0, bottom + rise)], -depth / 2, depth / 2, front, style.roof)


def _cap(
    kind: str, radius: float, bottom: float, rise: float, sides: int, style: Style, at: Flat, turn: float
) -> Solid:
    """What sits on a tower or drum: spire, dome, onion, cone or flat."""
    profiles: dict[str, list[Flat]] = {
        "spire": [(radius * 1.08, 0), (radius * 0.45, rise * 0.5), (0, rise * 1.5)],
        "cone": [(radius * 1.2, 0), (0, rise)],
        "dome": [(radius * float(np.cos(a)), rise * float(np.sin(a))) for a in np.linspace(0, np.pi / 2, 6)[:-1]]
        + [(radius * 0.06, rise), (0, rise * 1.25)],
        "onion": [
            (radius * 0.8, 0),
            (radius * 1.2, rise * 0.3),
            (radius * 1.05, rise * 0.6),
            (radius * 0.45, rise * 0.9),
            (radius * 0.1, rise * 1.15),
            (0, rise * 1.5),
        ],
        "bell": [(radius * 1.1, 0), (radius * 0.9, rise * 0.25), (radius * 0.35, rise * 0.6), (0, rise * 1.2)],
        "flat": [(radius * 1.15, 0), (radius * 1.15, rise * 0.15)],
    }
    paint = style.trim if kind == "flat" else style.roof
    return lathe([(r, bottom + z) for r, z in profiles[kind]], sides, paint, at, turn)


def _merlons(radius: float, bottom: float, number: int, size: float, paint: Paint, at: Flat) -> list[Solid]:
    """Battlements in a ring."""
    angles = np.arange(number) * 2 * np.pi / number + 0.2
    return [
        slab(
            size,
            size,
            bottom,
            bottom + size,
            paint,
            (at[0] + radius * float(np.cos(a)), at[1] + radius * float(np.sin(a))),
        )
        for a in angles
    ]


def _wall_merlons(x0: float, x1: float, y: float, bottom: float, number: int, size: float, paint: Paint) -> list[Solid]:
    """Battlements in a row along x."""
    return [slab(size, size, bottom, bottom + size, paint, (float(x), y)) for x in np.linspace(x0, x1, number)]


def _shaft(
    c: Chooser, style: Style, radius: float, height: float, at: Flat, sides: int, turn: float
) -> tuple[list[Solid], float]:
    """A tower's storeys with a cornice over each. Returns the solids and the radius at the top."""
    storeys = c.count(2, 5)
    taper = c.between(0.72, 1.0) ** (1 / storeys)
    tall = c.between(0.3, 0.6)
    every = c.pick([1, 2])
    solids: list[Solid] = []
    step = height / storeys
    for storey in range(storeys):
        bottom, top = storey * step, (storey + 1) * step
        body = lathe([(radius, bottom), (radius, top - 0.12 * step)], sides, style.wall, at, turn)
        width = 2 * radius * float(np.sin(np.pi / sides))
        shape = opening(style.window, min(width * 0.5, 0.5), step * tall)
        foot = bottom + step * 0.25
        body += [on_lathe(radius, sides, turn, k, foot, shape, style.hole, at) for k in range(0, sides, every)]
        solids += [body, lathe([(radius * 1.12, top - 0.12 * step), (radius * 1.12, top)], sides, style.trim, at, turn)]
        radius *= taper
    return solids, radius / taper


def tower(c: Chooser, style: Style) -> list[Solid]:
    """A free-standing tower with storeys and a cap, on a plinth."""
    sides = c.pick([4, 6, 8, 12])
    turn = np.pi / 4 if sides == 4 else np.pi / sides
    radius, height, base = c.between(1.1, 2.0), c.between(6.0, 10.5), c.between(0.3, 1.2)
    spread = c.between(2.6, 4.5)
    plinth = slab(spread, spread, 0, base, style.trim)
    shaft, end = _shaft(c, style, radius, height, (0.0, 0.0), sides, turn)
    solids = [plinth, *(moved(solid, 0, 0, base) for solid in shaft)]
    top = base + height
    if c.chance(0.45):
        belfry = end * c.between(0.6, 0.95)
        tall = c.between(0.8, 1.8)
        room = lathe([(belfry, top), (belfry, top + tall)], sides, style.wall, turn=turn)
        shape = opening("round", belfry * 0.6, tall * 0.75)
        room += [on_lathe(belfry, sides, turn, k, top + tall * 0.1, shape, style.hole) for k in range(sides)]
        solids.append(room)
        top, end = top + tall, belfry
    kind = c.pick(["spire", "cone", "dome", "onion", "bell", "merlons"])
    if kind == "merlons":
        return solids + _merlons(end * 0.95, top, c.count(6, 10), 0.45, style.trim, (0.0, 0.0))
    return [*solids, _cap(kind, end, top, c.between(1.0, 2.6), sides, style, (0.0, 0.0), turn)]


def basilica(c: Chooser, style: Style) -> list[Solid]:
    """A broad hall under a great dome, with a porch and slender corner towers."""
    width, depth, height = c.between(7, 11), c.between(6, 9), c.between(2.4, 4.2)
    low, high = (-width / 2, -depth / 2, 0.0), (width / 2, depth / 2, height)
    hall = box(low, high, style.wall)
    hall += _windows(low, high, [1, 2, 3], c.count(3, 5), c.count(1, 2), style, 0.6)
    if not (porch := c.chance(0.6)):
        hall += _windows(low, high, [0], c.pick([3, 5]), 1, style, 0.7)
    rim = 0.35
    solids = [hall, slab(width + 0.4, depth + 0.4, height, height + rim, style.trim)]
    sides = c.pick([8, 12, 16])
    radius, drum = c.between(1.7, 2.9), c.between(0.5, 2.0)
    body = lathe([(radius, height + rim), (radius, height + rim + drum)], sides, style.wall)
    shape = opening(style.window, radius * 0.25, drum * 0.65)
    body += [on_lathe(radius, sides, 0, k, height + rim + drum * 0.15, shape, style.hole) for k in range(sides)]
    cap = _cap(
        c.pick(["dome", "dome", "onion", "bell"]),
        radius,
        height + rim + drum,
        c.between(1.4, 3.2),
        sides,
        style,
        (0, 0),
        0,
    )
    solids += [body, cap]
    if porch:
        deep, rise = c.between(1.0, 1.8), c.between(0.8, 1.5)
        wide = width * c.between(0.35, 0.7)
        front = -depth / 2 - deep
        places = [(float(x), front + 0.3) for x in np.linspace(-wide / 2 + 0.3, wide / 2 - 0.3, c.count(4, 6))]
        solids += _columns(places, 0.22, 0, height - 0.9, c, style)
        solids.append(moved(_gable(wide, deep, height - 0.9, rise, style, style.trim), 0, -depth / 2 - deep / 2))
    towers = c.pick([0, 2, 4])
    if towers:
        tall, thin = c.between(6, 11), c.between(0.35, 0.6)
        top = c.pick(["spire", "onion", "cone"])
        out = c.between(0.3, 1.2)
        corners = [(s * (width / 2 + out + thin), t * (depth / 2 + out)) for t in (-1, 1) for s in (-1, 1)]
        for at in corners[:towers]:
            solids.append(lathe([(thin, 0), (thin, tall * 0.7)], 8, style.wall, at))
            solids.append(lathe([(thin * 1.5, tall * 0.7), (thin * 1.5, tall * 0.73)], 8, style.trim, at))
            solids.append(lathe([(thin * 0.85, tall * 0.73), (thin * 0.85, tall * 0.9)], 8, style.wall, at))
            solids.append(_cap(top, thin * 0.9, tall * 0.9, tall * 0.12, 8, style, at, 0))
    return solids


def temple(c: Chooser, style: Style) -> list[Solid]:
    """Columns around a cella under a gable, on steps."""
    width, depth, height = c.between(6, 10), c.between(6, 11), c.between(2.8, 5.0)
    steps, rise = c.count(2, 5), c.between(0.2, 0.45)
    solids = [
        slab(width + (steps - k) * 0.9, depth + (steps - k) * 0.9, k * rise, (k + 1) * rise, style.trim)
        for k in range(steps)
    ]
    floor = steps * rise
    across, along = c.count(4, 8), c.count(4, 7)
    edge_x, edge_y = width / 2 - 0.4, depth / 2 - 0.4
    places = [(float(x), y) for x in np.linspace(-edge_x, edge_x, across) for y in (-edge_y, edge_y)]
    places += [(x, float(y)) for y in np.linspace(-edge_y, edge_y, along)[1:-1] for x in (-edge_x, edge_x)]
    solids += _columns(places, c.between(0.24, 0.38), floor, floor + height, c, style)
    low = (-width / 2 + 1.5, -depth / 2 + 1.8, floor)
    high = (width / 2 - 1.5, depth / 2 - 1.5, floor + height)
    cella = box(low, high, style.wall)
    cella.append(on_box(low, high, 0, 0.5, 0, opening("rect", (high[0] - low[0]) * 0.35, height * 0.7), style.hole))
    beam = c.between(0.5, 1.2)
    solids += [cella, slab(width, depth, floor + height, floor + height + beam, style.wall)]
    top = floor + height + beam
    if c.chance(0.8):
        front = style.trim if c.chance(0.5) else style.wall
        solids.append(_gable(width + 0.5, depth + 0.5, top, c.between(1.0, 2.6), style, front))
    else:
        solids.append(slab(width * 0.7, depth * 0.7, top, top + c.between(0.4, 1.2), style.trim))
    return solids


def arch(c: Chooser, style: Style) -> list[Solid]:
    """A triumphal arch with one or three gateways and an attic."""
    gates = c.pick([1, 1, 3])
    width, depth, height = c.between(5.5, 7.5) + 2.5 * (gates > 1), c.between(2.0, 4.0), c.between(5, 7.5)
    middle, tall = c.between(1.6, 2.6), c.between(0.6, 0.85) * height
    wings = [(0.0, middle, tall)]
    if gates == 3:
        wing = c.between(0.9, 1.5)
        offset = middle / 2 + (width / 2 - middle / 2) / 2
        wings = [(-offset, wing, tall * 0.65), *wings, (offset, wing, tall * 0.65)]
    outline: list[Flat] = [(-width / 2, 0.0)]
    for x, wide, rise in wings:
        shape = opening(c.pick(["round", "round", "pointed"]), wide, rise)
        outline += [(x + u, z) for u, z in [shape[0], *shape[:1:-1], shape[1]]]
    outline += [(width / 2, 0.0), (width / 2, height), (-width / 2, height)]
    solids = [prism(outline, -depth / 2, depth / 2, style.wall)]
    solids.append(slab(width + 0.6, depth + 0.6, height, height + 0.4, style.trim))
    attic = c.between(0.8, 2.2)
    shrink = c.between(0.75, 1.0)
    low = (-width * shrink / 2, -depth * shrink / 2, height + 0.4)
    high = (width * shrink / 2, depth * shrink / 2, height + 0.4 + attic)
    block = box(low, high, style.wall)
    panel = opening("rect", width * shrink * c.between(0.3, 0.8), attic * 0.6)
    block += [on_box(low, high, side, 0.5, 0.2, panel, style.trim) for side in (0, 2)]
    solids.append(block)
    top = height + 0.4 + attic
    if c.chance(0.6):
        thick = c.between(0.3, 0.6)
        places = [
            (s * width * x, t * (depth / 2 + 0.35)) for s in (-1, 1) for t in (-1, 1) for x in ((0.28, 0.45)[:gates])
        ]
        solids += _columns(places, thick * 0.5, 0, height, c, style)
    if c.chance(0.5):
        solids.append(slab(1.6, 1.2, top, top + 0.4, style.trim))
        solids.append(lathe([(0.45, top + 0.4), (0.6, top + 1.0), (0.3, top + 1.7), (0, top + 2.1)], 6, style.roof))
    return solids


def stepped(c: Chooser, style: Style) -> list[Solid]:
    """A stepped pyramid with stairways and a shrine on top."""
    tiers, base, rise = c.count(3, 8), c.between(9, 13), c.between(0.8, 1.6)
    inset = base * c.between(0.6, 0.85) / tiers
    solids: list[Solid] = []
    lean = c.between(0.0, 0.35)
    for k in range(tiers):
        half = (base - k * inset) / 2
        profile = [(half * 2**0.5, k * rise), ((half - lean) * 2**0.5, (k + 1) * rise)]
        solids.append(lathe(profile, 4, style.wall, turn=np.pi / 4))
    top = tiers * rise
    wide = c.between(1.2, 2.6)
    crown = (base - (tiers - 1) * inset) / 2
    run = base / 2 - crown + 1.0
    wedge = [(0.0, 0.0), (run, 0.0), (0.0, top * 0.98)]
    flight = [Face(face.outline, style.trim, face.layer) for face in prism(wedge, -wide / 2, wide / 2, style.trim)]
    flight = [face._replace(paint=Paint(style.trim.colour, (50.0, 0.25), 0.5)) for face in flight]
    flights = c.pick([1, 2, 4])
    right = moved(flight, crown - lean, 0)
    spun = [turned(turned(turned(right))), turned(right), right, turned(turned(right))]
    solids = [*solids, *([face._replace(layer=0) for face in one] for one in spun[:flights])]
    side = crown * c.between(0.9, 1.4)
    low, high = (-side / 2, -side / 2, top), (side / 2, side / 2, top + c.between(0.8, 2.0))
    shrine = box(low, high, style.wall)
    door = opening(style.window, side * 0.35, (high[2] - top) * 0.75)
    shrine += [on_box(low, high, k, 0.5, 0, door, style.hole) for k in (0, 2)]
    solids.append(shrine)
    if c.chance(0.5):
        solids.append(lathe([(side * 0.75, high[2]), (0, high[2] + side * 0.7)], 4, style.roof, turn=np.pi / 4))
    else:
        solids.append(slab(side * 0.6, side * 0.25, high[2], high[2] + side * 0.6, style.trim))
    return solids


def pyramid(c: Chooser, style: Style) -> list[Solid]:
    """Smooth pyramids: a great one, lesser ones beside it, a gateway."""
    half, rise = c.between(4.5, 6.0), c.between(5, 9)
    tip = c.between(0.0, 0.3)
    cut = c.between(0.65, 0.95)
    profile = [(half * 2**0.5, 0.0), (half * (1 - cut) * 2**0.5, rise * cut)]
    solids = [lathe(profile, 4, style.wall, turn=np.pi / 4)]
    solids.append(lathe([profile[1], (tip * half * (1 - cut), rise)], 4, style.trim, turn=np.pi / 4))
    for _ in range(c.count(1, 3)):
        small = half * c.between(0.2, 0.45)
        at = (c.pick([-1, 1]) * (half + small * c.between(1.1, 1.8)), c.between(-half, half * 0.8))
        solids.append(lathe([(small * 2**0.5, 0.0), (0, small * c.between(1.0, 1.9))], 4, style.wall, at, np.pi / 4))
    if c.chance(0.6):
        low, high = (-1.3, -half - 1.6, 0.0), (1.3, -half - 0.2, c.between(1.2, 2.4))
        gate = box(low, high, style.trim)
        gate.append(on_box(low, high, 0, 0.5, 0, opening("rect", 1.0, high[2] * 0.7), style.hole))
        solids.append(gate)
    return solids


def obelisk(c: Chooser, style: Style) -> list[Solid]:
    """A needle or a column of honour on a stepped plinth."""
    steps = c.count(1, 4)
    spread = c.between(3.5, 6.0)
    solids = [slab(spread - k * 0.7, spread - k * 0.7, k * 0.35, (k + 1) * 0.35, style.trim) for k in range(steps)]
    base = steps * 0.35
    die = c.between(1.0, 2.4)
    side = (spread - steps * 0.7) * c.between(0.6, 0.85)
    low, high = (-side / 2, -side / 2, base), (side / 2, side / 2, base + die)
    block = box(low, high, style.wall)
    plate = opening(c.pick(["rect", "round", "disc"]), side * 0.5, die * 0.6)
    block += [on_box(low, high, k, 0.5, 0.2, plate, style.roof) for k in range(4)]
    solids.append(block)
    floor = base + die
    height, thick = c.between(6, 9), c.between(0.4, 0.62) * side
    if c.chance(0.5):
        slim = c.between(0.5, 0.8)
        point = thick * slim
        profile = [(thick, floor), (point, floor + height), (0, floor + height + point * 1.6)]
        solids.append(lathe(profile, 4, style.wall, turn=np.pi / 4))
        return solids
    bands = c.count(0, 4)
    solids.append(lathe([(thick * 1.15, floor), (thick * 1.15, floor + 0.4)], 10, style.trim))
    for k in range(bands + 1):
        bottom, top = (floor + 0.4 + height * j / (bands + 1) for j in (k, k + 1))
        solids.append(lathe([(thick * 0.8, bottom), (thick * 0.78, top - 0.15)], 10, style.wall))
        solids.append(lathe([(thick * 0.95, top - 0.15), (thick * 0.95, top)], 10, style.trim))
    top = floor + 0.4 + height
    solids.append(slab(thick * 2.4, thick * 2.4, top, top + 0.4, style.trim))
    solids.append(_statue(c, style, top + 0.4, c.between(1.6, 2.8)))
    return solids


def _statue(c: Chooser, style: Style, bottom: float, tall: float) -> Solid:
    wide = c.between(0.25, 0.4) * tall
    profile = [(wide, 0), (wide * 0.55, 0.45), (wide * 0.8, 0.72), (wide * 0.25, 0.8), (wide * 0.42, 0.9), (0, 1.0)]
    return lathe([(r, bottom + tall * z) for r, z in profile], 6, style.roof)


def pagoda(c: Chooser, style: Style) -> list[Solid]:
    """Storeys that shrink upwards, each under a wide roof."""
    storeys, sides = c.count(3, 7), c.pick([4, 4, 6, 8])
    turn = np.pi / 4 if sides == 4 else np.pi / sides
    radius, rise, shrink = c.between(2.0, 3.2), c.between(1.2, 2.0), c.between(0.78, 0.93)
    eaves, thick = c.between(1.35, 1.8), c.between(0.35, 0.7)
    base = c.between(0.3, 1.0)
    solids = [lathe([(radius * 1.8, 0), (radius * 1.8, base)], sides, style.trim, turn=turn)]
    bottom = base
    for _ in range(storeys):
        body = lathe([(radius, bottom), (radius, bottom + rise * (1 - thick / 2))], sides, style.wall, turn=turn)
        shape = opening(style.window, radius * 0.4, rise * 0.45)
        body += [on_lathe(radius, sides, turn, k, bottom + rise * 0.1, shape, style.hole) for k in range(sides)]
        under = bottom + rise * (1 - thick / 2)
        roof = [(radius * 0.9, under), (radius * eaves, under + 0.08), (radius * 1.05, under + rise * thick * 0.5)]
        solids += [body, lathe([*roof, (radius * 0.7, bottom + rise)], sides, style.roof, turn=turn)]
        bottom += rise
        radius *= shrink
    solids.append(lathe([(0.18, bottom), (0.3, bottom + 0.5), (0.08, bottom + 0.7), (0, bottom + 2.2)], 6, style.trim))
    return solids


def castle(c: Chooser, style: Style) -> list[Solid]:
    """Walls with round towers at the corners, a gate and a keep."""
    width, depth, wall = c.between(9, 13), c.between(7, 11), c.between(2.2, 3.8)
    thick, tall = c.between(1.0, 1.6), c.between(1.3, 2.0) * wall
    sides = c.pick([8, 12, 4])
    turn = np.pi / 4 if sides == 4 else 0.0
    x, y, deep = width / 2, depth / 2, 0.5
    caps = c.pick(["cone", "merlons", "spire"])
    reach = thick if sides != 4 else thick / 2**0.5
    runs = [
        ((-x + reach, -y - deep, 0.0), (x - reach, -y + deep, wall)),
        ((-x + reach, y - deep, 0.0), (x - reach, y + deep, wall)),
        ((-x - deep, -y + reach, 0.0), (-x + deep, y - reach, wall)),
        ((x - deep, -y + reach, 0.0), (x + deep, y - reach, wall)),
    ]
    solids = [box(low, high, style.wall) for low, high in runs]
    gate = opening(style.window, 1.7, wall * 0.7)
    solids[0].append(on_box(*runs[0], 0, 0.5, 0, gate, style.hole))
    for side in (-1, 1):
        solids += _wall_merlons(-x + thick * 1.4, x - thick * 1.4, side * y, wall, c.count(6, 9), 0.5, style.trim)
    for at in [(s * x, t * y) for s in (-1, 1) for t in (-1, 1)]:
        body = lathe([(thick * 1.1, 0), (thick, tall)], sides, style.wall, at, turn)
        slit = opening("rect", 0.25, 0.8)
        body += [on_lathe(thick, sides, turn, k, tall * 0.6, slit, style.hole, at) for k in range(sides)]
        solids.append(body)
        if caps == "merlons":
            solids += _merlons(thick * 0.75, tall, 5, 0.5, style.trim, at)
        else:
            solids.append(_cap(caps, thick, tall, c.between(1.6, 2.2), sides, style, at, turn))
    width, high = c.between(2.6, 4.2), c.between(1.3, 2.6) * wall
    low_corner, high_corner = (-width / 2, -width / 2 + 0.8, 0.0), (width / 2, width / 2 + 0.8, high)
    keep = box(low_corner, high_corner, style.wall)
    keep += _windows(low_corner, high_corner, [0, 1, 2, 3], c.count(2, 3), 3, style, 0.4)
    solids.append(keep)
    if c.chance(0.5):
        solids.append(moved(_gable(width + 0.3, width + 0.3, high, c.between(1.0, 2.2), style, style.wall), 0, 0.8))
    else:
        solids += _wall_merlons(-width / 2 + 0.3, width / 2 - 0.3, 0.8 - width / 2 + 0.3, high, 4, 0.5, style.trim)
    return solids


def aqueduct(c: Chooser, style: Style) -> list[Solid]:
    """Rows of arches over each other."""
    spans, tiers = c.count(3, 6), c.count(1, 3)
    pitch, depth = c.between(2.2, 3.2), c.between(1.0, 2.0)
    pier = c.between(0.2, 0.4) * pitch
    solids: list[Solid] = []
    bottom, rise = 0.0, c.between(3.0, 5.0)
    shape = c.pick(["round", "pointed"])
    for tier in range(tiers):
        width = spans * pitch
        hole = opening(shape, pitch - pier, rise * 0.85)
        outline: list[Flat] = [(-width / 2, bottom)]
        for k in range(spans):
            x = -width / 2 + (k + 0.5) * pitch
            outline += [(x + u, bottom + z) for u, z in [hole[0], *hole[:1:-1], hole[1]]]
        outline += [(width / 2, bottom), (width / 2, bottom + rise), (-width / 2, bottom + rise)]
        solids.append(prism(outline, -depth / 2, depth / 2, style.wall))
        solids.append(slab(width + 0.3, depth + 0.3, bottom + rise, bottom + rise + 0.3, style.trim))
        bottom += rise + 0.3
        rise *= c.between(0.5, 0.9)
        if tier % 2 == 0 and c.chance(0.5):
            spans, pitch, pier = spans * 2, pitch / 2, pier / 2
    return solids


def church(c: Chooser, style: Style) -> list[Solid]:
    """A nave under a gable roof with one or two towers in front."""
    width, length, height = c.between(3.6, 5.2), c.between(7, 11), c.between(3.0, 5.0)
    low, high = (-width / 2, -length / 2, 0.0), (width / 2, length / 2, height)
    nave = box(low, high, style.wall)
    nave += _windows(low, high, [1, 3], c.count(3, 6), 1, style, 0.65)
    pair = c.chance(0.5)
    if pair:
        nave.append(on_box(low, high, 0, 0.5, 0, opening(style.window, width * 0.25, height * 0.45), style.hole))
        nave.append(on_box(low, high, 0, 0.5, 0.55, opening("disc", height * 0.35, 0), style.hole))
    rise = c.between(1.6, 3.4)
    solids = [nave, _gable(width + 0.4, length, height, rise, style, style.wall)]
    side, tall = c.between(1.7, 2.6), c.between(1.5, 2.4) * height
    places = (
        [(-width / 2 - side / 2, -length / 2), (width / 2 + side / 2, -length / 2)]
        if pair
        else [(0.0, -length / 2 - side / 2)]
    )
    cap, sharp = c.pick(["spire", "bell", "onion", "cone"]), c.between(1.8, 3.4)
    rows = c.count(2, 4)
    for x, y in places:
        bottom, top = (x - side / 2, y - side / 2, 0.0), (x + side / 2, y + side / 2, tall)
        belfry = box(bottom, top, style.wall)
        belfry += _windows(bottom, top, [0, 1, 2, 3], c.pick([1, 2]), rows, style, 0.5)
        solids += [belfry, slab(side + 0.3, side + 0.3, tall, tall + 0.25, style.trim, (x, y))]
        solids.append(_cap(cap, side * 0.66, tall + 0.25, sharp, c.pick([4, 8]), style, (x, y), np.pi / 4))
    if c.chance(0.5):
        arm = width * c.between(0.7, 1.1)
        for side_x in (-1, 1):
            at = (side_x * (width / 2 + arm / 2), length * 0.18)
            solids.append(slab(arm, width * 0.7, 0, height * 0.9, style.wall, at))
            solids.append(moved(turned(_gable(width * 0.8, arm, height * 0.9, rise * 0.7, style, style.wall)), *at))
    return solids


def blocks(c: Chooser, style: Style) -> list[Solid]:
    """A modern stack of cubes, shifted against each other."""
    levels = c.count(3, 6)
    solids: list[Solid] = []
    bottom = 0.0
    for level in range(levels):
        wide, deep, tall = c.between(2.4, 6.0), c.between(2.4, 6.0), c.between(1.2, 3.0)
        x, y = c.between(-1.2, 1.2), c.between(-1.2, 1.2)
        low, high = (x - wide / 2, y - deep / 2, bottom), (x + wide / 2, y + deep / 2, bottom + tall)
        paint = (style.wall, style.trim, style.roof)[c.count(0, 2)]
        block = box(low, high, paint)
        if c.chance(0.65):
            square = style._replace(window="rect")
            block += _windows(low, high, [0, 1, 2, 3], c.count(2, 5), c.count(1, 2), square, c.between(0.35, 0.8))
        solids.append(block)
        bottom += tall
        if level and c.chance(0.3):
            solids.append(slab(wide + 0.6, deep + 0.6, bottom, bottom + 0.2, style.trim, (x, y)))
            bottom += 0.2
    return solids


def cathedral(c: Chooser, style: Style) -> list[Solid]:
    """A cluster of drums under coloured onion domes."""
    base = c.between(1.0, 3.0)
    spread = c.between(6.5, 9.0)
    low, high = (-spread / 2, -spread / 2, 0.0), (spread / 2, spread / 2, base)
    hall = box(low, high, style.wall)
    hall += _windows(low, high, [0, 1, 2, 3], c.count(3, 5), 1, style, 0.7)
    solids = [hall]
    ring = c.count(3, 6)
    middle = c.between(1.0, 1.5)
    kinds = c.pick([["onion"], ["onion", "spire"], ["dome"], ["bell", "onion"]])
    tall = c.between(4.0, 6.5)
    solids += _domed(c, style, middle, base, tall, kinds[-1], (0.0, 0.0))
    lesser, radius = c.between(0.55, 0.85), spread / 2 - 1.0
    turn = c.between(0, 1.5)
    for k in range(ring):
        angle = turn + k * 2 * np.pi / ring
        at = (radius * float(np.cos(angle)), radius * float(np.sin(angle)))
        paint = Paint(_shifted(c.pick(ROOFS), c), (0.5, 0.3), 0.3)
        solids += _domed(c, style._replace(roof=paint), lesser, base, tall * c.between(0.4, 0.75), kinds[0], at)
    return solids


def _domed(c: Chooser, style: Style, radius: float, bottom: float, tall: float, kind: str, at: Flat) -> list[Solid]:
    body = lathe([(radius, bottom), (radius, bottom + tall)], 8, style.wall, at)
    shape = opening(style.window, radius * 0.4, min(tall * 0.5, 1.4))
    body += [on_lathe(radius, 8, 0, k, bottom + tall * 0.35, shape, style.hole, at) for k in range(8)]
    top = bottom + tall
    collar = lathe([(radius * 1.15, top), (radius * 1.15, top + 0.2)], 8, style.trim, at)
    return [body, collar, _cap(kind, radius * 1.1, top + 0.2, radius * c.between(1.5, 2.2), 8, style, at, 0)]


def rotunda(c: Chooser, style: Style) -> list[Solid]:
    """A ring of columns around a drum, under a dome or a cone."""
    radius, height, steps = c.between(3.0, 4.5), c.between(2.6, 5.0), c.count(1, 4)
    rise = 0.3
    solids = [
        lathe(
            [(radius * 1.15 + (steps - k) * 0.5, k * rise), (radius * 1.15 + (steps - k) * 0.5, (k + 1) * rise)],
            14,
            style.trim,
        )
        for k in range(steps)
    ]
    floor = steps * rise
    core = radius * c.between(0.5, 0.75)
    drum = lathe([(core, floor), (core, floor + height)], 12, style.wall)
    drum += [
        on_lathe(core, 12, 0, k, floor, opening(style.window, core * 0.3, height * 0.6), style.hole)
        for k in range(0, 12, 3)
    ]
    number = c.count(7, 14)
    angles = np.arange(number) * 2 * np.pi / number
    places = [(radius * float(np.cos(a)), radius * float(np.sin(a))) for a in angles]
    solids += [drum, *_columns(places, c.between(0.2, 0.36), floor, floor + height, c, style)]
    top = floor + height
    ring = c.between(0.4, 0.9)
    solids.append(lathe([(radius * 1.12, top), (radius * 1.12, top + ring)], 14, style.wall))
    top += ring
    if c.chance(0.4):
        upper = radius * c.between(0.5, 0.8)
        second = c.between(0.8, 2.2)
        storey = lathe([(upper, top), (upper, top + second)], 12, style.wall)
        storey += [
            on_lathe(upper, 12, 0, k, top + second * 0.2, opening(style.window, upper * 0.25, second * 0.6), style.hole)
            for k in range(12)
        ]
        solids.append(storey)
        top, radius = top + second, upper
    solids.append(_cap(c.pick(["dome", "cone", "bell"]), radius, top, c.between(1.4, 3.4), 14, style, (0, 0), 0))
    return solids


def lighthouse(c: Chooser, style: Style) -> list[Solid]:
    """A banded tower with a gallery and a lamp, and a keeper's house."""
    radius, slim, height = c.between(1.2, 1.9), c.between(0.5, 0.8), c.between(7, 10)
    bands = c.count(2, 7)
    other = style.roof if c.chance(0.7) else style.trim
    edges = np.linspace(0, 1, bands + 1)
    solids: list[Solid] = []
    for k, (start, end) in enumerate(itertools.pairwise(edges)):
        r0, r1 = (radius * (1 - (1 - slim) * float(t)) for t in (start, end))
        paint = Paint((style.wall, other)[k % 2].colour, grain=style.wall.grain)
        band = lathe([(r0, height * float(start)), (r1, height * float(end))], 12, paint)
        if k % 2 == 0:
            window = opening(style.window, 0.35, min(0.8, height / bands * 0.5))
            foot = height * float(start + end) / 2 - 0.2
            band += [on_lathe((r0 + r1) / 2, 12, 0, side, foot, window, style.hole) for side in (1, 5, 8, 10)]
        solids.append(band)
    gallery, room = radius * slim * c.between(1.25, 1.7), c.between(0.8, 1.6)
    solids.append(lathe([(gallery, height), (gallery, height + 0.3)], 12, style.trim))
    glass = Paint((0.75, 0.75, 0.6), (0.3, 0.6), 0.5, glow=True)
    lamp = radius * slim * 0.75
    solids.append(lathe([(lamp, height + 0.3), (lamp, height + 0.3 + room)], 8, glass))
    solids.append(_cap(c.pick(["dome", "cone", "bell"]), lamp * 1.1, height + 0.3 + room, 1.0, 8, style, (0, 0), 0))
    if c.chance(0.7):
        wide, deep, tall = c.between(2.5, 4.0), c.between(2.0, 3.0), c.between(1.2, 2.0)
        x = c.pick([-1, 1]) * (radius + wide / 2 + 0.1)
        low, high = (x - wide / 2, -deep / 2, 0.0), (x + wide / 2, deep / 2, tall)
        house = box(low, high, style.wall)
        house += _windows(low, high, [0, 1, 2, 3], 3, 1, style, 0.5)
        solids += [house, moved(turned(_gable(deep + 0.3, wide, tall, 1.1, style, style.wall)), x, 0)]
    return solids


def arena(c: Chooser, style: Style) -> list[Solid]:
    """A round amphitheatre with tiers of arches."""
    radius, tiers = c.between(5, 7), c.count(2, 4)
    rise, sides = c.between(1.2, 2.0), c.pick([16, 20, 24])
    height = tiers * rise
    inner = radius * c.between(0.55, 0.75)
    profile = [(radius, 0.0)]
    for k in range(tiers):
        profile += [(radius, (k + 1) * rise - 0.2), (radius * 1.03, (k + 1) * rise - 0.15), (radius, (k + 1) * rise)]
    ring = lathe([*profile, (radius * 0.93, height), (inner, height * 0.3), (inner, 0)], sides, style.wall)
    width = 2 * radius * float(np.sin(np.pi / sides))
    fill = c.between(0.45, 0.7)
    shape = opening(style.window, width * fill, rise * 0.65)
    lack = c.count(0, sides // 3)
    for tier in range(tiers):
        kept = sides if tier < tiers - 1 else sides - lack
        ring += [on_lathe(radius, sides, 0, k, tier * rise + 0.1, shape, style.hole) for k in range(kept)]
    return [ring]


def trilithons(c: Chooser, style: Style) -> list[Solid]:
    """Standing stones with lintels, in a ring."""
    number, radius = c.count(5, 9), c.between(4.5, 6.0)
    tall, thick = c.between(2.4, 4.0), c.between(0.6, 1.0)
    wide = 2 * np.pi * radius / number * c.between(0.2, 0.32)
    stone = Paint(style.wall.colour, grain=0.4)
    solids: list[Solid] = []
    lack = c.count(0, 3)
    for k in range(number):
        angle = 2 * np.pi * k / number
        x, y = radius * float(np.cos(angle)), radius * float(np.sin(angle))
        lean = c.between(0.75, 1.0)
        for shift in (-wide, wide):
            at = (x - shift * float(np.sin(angle)), y + shift * float(np.cos(angle)))
            profile = [(thick * 0.8, 0), (thick * 0.65 * lean, tall)]
            solids.append(lathe(profile, 5, stone, at, c.between(0, 1)))
        if k >= lack:
            beam = slab(thick * 1.1, wide * 3.2, tall, tall + thick * 0.8, stone)
            cos, sin = float(np.cos(angle)), float(np.sin(angle))
            spun = [
                f._replace(outline=[(x + u * cos - v * sin, y + u * sin + v * cos, z) for u, v, z in f.outline])
                for f in beam
            ]
            solids.append(spun)
    middle = c.between(1.0, 2.0)
    solids.append(slab(middle * 1.6, middle, 0, c.between(0.5, 2.5), stone))
    return solids


def colossus(c: Chooser, style: Style) -> list[Solid]:
    """A giant figure on a plinth, arms out or up."""
    side, base = c.between(2.6, 4.0), c.between(1.2, 3.2)
    solids = [slab(side * 1.25, side * 1.25, 0, base * 0.25, style.trim)]
    low, high = (-side / 2, -side / 2, base * 0.25), (side / 2, side / 2, base)
    plinth = box(low, high, style.wall)
    plinth += _windows(low, high, [0, 1, 2, 3], c.count(1, 3), 1, style, 0.5)
    solids.append(plinth)
    body = style.roof if c.chance(0.5) else style.trim
    body = Paint(body.colour, grain=0.2)
    tall, hips = c.between(4.0, 6.0), c.between(0.7, 1.1)
    waist, chest = hips * c.between(0.5, 0.8), hips * c.between(0.8, 1.15)
    robe = [
        (hips * 1.2, base),
        (waist, base + tall * 0.5),
        (chest, base + tall * 0.8),
        (chest * 0.4, base + tall * 0.86),
    ]
    solids.append(lathe(robe, 8, body))
    head = chest * c.between(0.5, 0.7)
    neck = base + tall * 0.86
    solids.append(
        lathe([(head * 0.7, neck), (head, neck + head), (head * 0.6, neck + head * 1.8), (0, neck + head * 2)], 8, body)
    )
    shoulder, reach = base + tall * 0.76, c.between(1.4, 2.6)
    arm = 0.36
    poses = c.pick([("out", "out"), ("up", "down"), ("up", "up"), ("down", "out")])
    for sign, pose in zip((-1, 1), poses, strict=True):
        x = sign * (chest * 0.92 + arm / 2)
        if pose == "out":
            middle = sign * (chest * 0.92 + reach / 2)
            solids.append(slab(reach, arm, shoulder - arm, shoulder, body, (middle, 0.0)))
        else:
            end = shoulder + reach if pose == "up" else shoulder - reach
            solids.append(slab(arm, arm, min(shoulder - arm, end), max(shoulder, end), body, (x, 0.0)))
            if pose == "up" and c.chance(0.6):
                torch = Paint((0.85, 0.65, 0.2), glow=True)
                solids.append(lathe([(0.2, end), (0.45, end + 0.4), (0, end + 1.1)], 6, torch, (x, 0.0)))
    if c.chance(0.5):
        crown = neck + head * 2
        solids.append(lathe([(head * 0.5, crown), (head * 1.1, crown + head * 0.6)], 7, style.wall))
    return solids


def bridge(c: Chooser, style: Style) -> list[Solid]:
    """Two gate towers that carry a deck between them."""
    span, height = c.between(6, 9), c.between(5.5, 8.5)
    side, deck = c.between(1.3, 2.2), c.between(1.2, 2.2)
    sag = c.between(0.3, 0.7)
    solids: list[Solid] = []
    reach = span / 2 + side + c.between(1.5, 3.0)
    cap = c.pick(["spire", "cone", "flat", "bell"])
    for sign in (-1, 1):
        x = sign * (span / 2 + side / 2)
        low, high = (x - side / 2, -side / 2, 0.0), (x + side / 2, side / 2, height)
        post = box(low, high, style.wall)
        post += _windows(low, high, [0, 1, 2, 3], c.pick([1, 2]), 4, style, 0.5)
        solids += [post, slab(side + 0.3, side + 0.3, height, height + 0.25, style.trim, (x, 0.0))]
        solids.append(_cap(cap, side * 0.66, height + 0.25, c.between(1.4, 2.4), 4, style, (x, 0.0), np.pi / 4))
        outer = sign * (span / 2 + side)
        ends = sorted((outer, sign * reach))
        solids.append(box((ends[0], -side * 0.4, deck), (ends[1], side * 0.4, deck + 0.35), style.trim))
    solids.append(box((-span / 2, -side * 0.4, deck), (span / 2, side * 0.4, deck + 0.35), style.trim))
    if c.chance(0.55):
        top = height * c.between(0.75, 0.95)
        solids.append(box((-span / 2, -side * 0.25, top), (span / 2, side * 0.25, top + 0.4), style.roof))
        places = np.linspace(-span / 2, span / 2, c.count(4, 8))[1:-1]
        solids += [slab(0.12, 0.12, deck + 0.35, top, style.trim, (float(x), 0.0)) for x in places]
    else:
        for x in np.linspace(-span / 2, span / 2, 9)[1:-1]:
            rise = deck + 0.4 + (height - deck) * (1 - sag) * (2 * float(x) / span) ** 2 + 0.2
            solids.append(slab(0.25, 0.15, deck + 0.35, rise, style.roof, (float(x), 0.0)))
    return solids


FAMILIES: dict[str, Callable[[Chooser, Style], list[Solid]]] = {
    "Tower": tower,
    "Basilica": basilica,
    "Temple": temple,
    "Arch": arch,
    "Terraces": stepped,
    "Pyramids": pyramid,
    "Column": obelisk,
    "Pagoda": pagoda,
    "Castle": castle,
    "Aqueduct": aqueduct,
    "Church": church,
    "Cubes": blocks,
    "Cathedral": cathedral,
    "Rotunda": rotunda,
    "Lighthouse": lighthouse,
    "Arena": arena,
    "Stones": trilithons,
    "Colossus": colossus,
    "Bridge": bridge,
}
