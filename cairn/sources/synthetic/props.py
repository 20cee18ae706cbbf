"""Things beside a landmark: flat cut-outs (people, trees, lamps, signs, cars, beasts, hills) and plain houses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from cairn.sources.synthetic.renderer import Surface
from cairn.sources.synthetic.solids import Flat, Mesh, Paint, Solid, box, mesh_of, moved, on_box, opening, prism, turned


class Prop(NamedTuple):
    """Outlines (across, up) and what each is painted with, the later over the earlier; the foot is (0, 0)."""

    outlines: Sequence[Sequence[Flat]]
    surfaces: Sequence[Surface]


def person(rng: np.random.Generator) -> Prop:
    """A standing figure, 0.75 to 0.95 high."""
    tall = rng.uniform(0.75, 0.95)
    skin = Surface(np.array([0.75, 0.55, 0.42]) * rng.uniform(0.45, 1.1), 0.2, grain=0.05)
    coat = Surface(rng.uniform(0.05, 0.8, 3), 0.1, grain=0.2)
    legs = Surface(rng.uniform(0.03, 0.35, 3), 0.1, grain=0.2)
    wide = tall * rng.uniform(0.13, 0.17)
    lower = [(-wide * 0.7, 0.0), (wide * 0.7, 0.0), (wide * 0.75, tall * 0.5), (-wide * 0.75, tall * 0.5)]
    upper = [
        (-wide, tall * 0.42),
        (wide, tall * 0.42),
        (wide * 1.05, tall * 0.8),
        (0.0, tall * 0.86),
        (-wide * 1.05, tall * 0.8),
    ]
    return Prop([lower, upper, _ellipse(0, tall * 0.92, tall * 0.07, tall * 0.085)], [legs, coat, skin])


def broadleaf(rng: np.random.Generator) -> Prop:
    """A tree with a round crown, 2 to 5 high."""
    tall = rng.uniform(2.0, 5.0)
    green = _leaf(rng)
    trunk = [(-tall * 0.035, 0.0), (tall * 0.035, 0.0), (tall * 0.03, tall * 0.6), (-tall * 0.03, tall * 0.6)]
    outlines, surfaces = [trunk], [Surface((0.22, 0.16, 0.11), 0.3, grain=0.4)]
    for _ in range(int(rng.integers(4, 8))):
        x, z = rng.uniform(-0.2, 0.2) * tall, rng.uniform(0.5, 0.85) * tall
        outlines.append(_ellipse(x, z, tall * rng.uniform(0.12, 0.22), tall * rng.uniform(0.1, 0.18)))
        surfaces.append(Surface(green * rng.uniform(0.7, 1.3), 0.7, grain=0.7))
    return Prop(outlines, surfaces)


def conifer(rng: np.random.Generator) -> Prop:
    """A fir, 2 to 5 high."""
    tall = rng.uniform(2.0, 5.0)
    green = _leaf(rng) * 0.7
    outlines = [[(-tall * 0.03, 0.0), (tall * 0.03, 0.0), (tall * 0.03, tall * 0.2), (-tall * 0.03, tall * 0.2)]]
    surfaces = [Surface((0.2, 0.14, 0.1), 0.3)]
    for k in range(3):
        half, low = tall * (0.2 - 0.05 * k), tall * (0.15 + 0.24 * k)
        outlines.append([(-half, low), (half, low), (0.0, low + tall * 0.4)])
        surfaces.append(Surface(green * (0.85 + 0.15 * k), 0.6, grain=0.6))
    return Prop(outlines, surfaces)


def palm(rng: np.random.Generator) -> Prop:
    """A palm, 2.5 to 5 high."""
    tall = rng.uniform(2.5, 5.0)
    lean = rng.uniform(-0.2, 0.2) * tall
    outlines = [[(-0.07, 0.0), (0.07, 0.0), (lean + 0.05, tall), (lean - 0.05, tall)]]
    surfaces = [Surface((0.35, 0.27, 0.18), 0.15, grain=0.5)]
    green = _leaf(rng)
    for angle in np.linspace(-0.4, np.pi + 0.4, 7) + rng.uniform(-0.15, 0.15, 7):
        x, z = float(np.cos(angle)) * tall * 0.3, float(np.sin(angle)) * tall * 0.2
        outlines.append([(lean, tall), (lean + x * 0.6, tall + z + 0.1 * tall), (lean + x, tall + z - 0.05 * tall)])
        surfaces.append(Surface(green * rng.uniform(0.7, 1.2), 0.5, grain=0.4))
    return Prop(outlines, surfaces)


def lamp(rng: np.random.Generator) -> Prop:
    """A street lamp, 2 to 3.5 high."""
    tall = rng.uniform(2.0, 3.5)
    dark = Surface(rng.uniform(0.04, 0.2) * np.ones(3), grain=0.05)
    pole = [(-0.05, 0.0), (0.05, 0.0), (0.04, tall), (-0.04, tall)]
    return Prop([pole, _ellipse(0, tall + 0.12, 0.16, 0.2)], [dark, Surface((0.9, 0.87, 0.7), grain=0.0)])


def sign(rng: np.random.Generator) -> Prop:
    """A board on a pole, or a banner."""
    tall, wide, high = rng.uniform(0.9, 2.2), rng.uniform(0.25, 0.7), rng.uniform(0.25, 0.8)
    pole = [(-0.035, 0.0), (0.035, 0.0), (0.035, tall), (-0.035, tall)]
    board = [(-wide, tall), (wide, tall), (wide, tall + high), (-wide, tall + high)]
    stripe = [
        (-wide * 0.8, tall + high * 0.3),
        (wide * 0.8, tall + high * 0.3),
        (wide * 0.8, tall + high * 0.6),
        (-wide * 0.8, tall + high * 0.6),
    ]
    paints = [Surface(rng.uniform(0.05, 0.9, 3), grain=0.05) for _ in range(2)]
    return Prop([pole, board, stripe], [Surface((0.3, 0.3, 0.3), grain=0.05), *paints])


def car(rng: np.random.Generator) -> Prop:
    """A car from the side, about 2 long."""
    scale, way = rng.uniform(0.85, 1.15), 1 if rng.random() < 0.5 else -1
    body = [
        (-1.0, 0.14),
        (1.0, 0.14),
        (1.02, 0.36),
        (0.62, 0.42),
        (0.36, 0.68),
        (-0.45, 0.68),
        (-0.75, 0.42),
        (-1.0, 0.4),
    ]
    glass = [(-0.6, 0.42), (0.5, 0.42), (0.32, 0.62), (-0.4, 0.62)]
    dark = np.array([0.04, 0.04, 0.04])
    paints = [rng.uniform(0.05, 0.85, 3), np.array([0.12, 0.15, 0.18]), dark, dark]
    outlines = [body, glass, _ellipse(-0.6, 0.15, 0.17, 0.17), _ellipse(0.62, 0.15, 0.17, 0.17)]
    scaled = [[(x * scale * way, z * scale) for x, z in outline] for outline in outlines]
    return Prop(scaled, [Surface(paint, 0.5, grain=0.04) for paint in paints])


def bush(rng: np.random.Generator) -> Prop:
    """Low leaves, sometimes in flower."""
    green = _leaf(rng)
    outlines, surfaces = [], []
    for _ in range(int(rng.integers(3, 6))):
        outlines.append(
            _ellipse(rng.uniform(-0.6, 0.6), rng.uniform(0.1, 0.4), rng.uniform(0.3, 0.6), rng.uniform(0.2, 0.4))
        )
        surfaces.append(Surface(green * rng.uniform(0.7, 1.3), 0.3, grain=0.7))
    if rng.random() < 0.4:
        paint = Surface(rng.uniform(0.3, 0.9, 3), grain=0.05)
        for _ in range(8):
            outlines.append(_ellipse(rng.uniform(-0.7, 0.7), rng.uniform(0.1, 0.6), 0.05, 0.05))
            surfaces.append(paint)
    return Prop(outlines, surfaces)


def beast(rng: np.random.Generator) -> Prop:
    """A four-legged animal from the side, made of blobs."""
    scale, way = rng.uniform(0.6, 1.3), 1 if rng.random() < 0.5 else -1
    coat = Surface(
        rng.uniform(0.15, 0.8) * np.array([1.0, rng.uniform(0.7, 0.95), rng.uniform(0.4, 0.9)]), 0.25, grain=0.35
    )
    legs = rng.uniform(0.25, 0.6)
    outlines: list[list[Flat]] = [
        [(x - 0.06, 0.0), (x + 0.06, 0.0), (x + 0.08, legs + 0.1), (x - 0.08, legs + 0.1)]
        for x in (-0.42, -0.25, 0.25, 0.42)
    ]
    outlines.append(_ellipse(0, legs + 0.22, 0.58, rng.uniform(0.22, 0.34)))
    reach, rise = rng.uniform(0.55, 0.75), legs + rng.uniform(0.4, 0.9)
    outlines.append([(0.3, legs + 0.2), (0.55, legs + 0.1), (reach + 0.1, rise), (reach - 0.1, rise)])
    outlines.append(_ellipse(reach + 0.06, rise, 0.22, 0.15))
    outlines.append([(reach - 0.1, rise + 0.1), (reach + 0.02, rise + 0.1), (reach - 0.05, rise + 0.3)])
    outlines.append(
        [(-0.5, legs + 0.3), (-0.56, legs + 0.36), (-rng.uniform(0.7, 0.95), legs + rng.uniform(-0.1, 0.6))]
    )
    outlines.append(_ellipse(reach + 0.12, rise + 0.04, 0.025, 0.025))
    scaled = [[(x * scale * way, z * scale) for x, z in outline] for outline in outlines]
    return Prop(scaled, [coat] * (len(outlines) - 1) + [Surface((0.02, 0.02, 0.02), grain=0.0)])


def blob(rng: np.random.Generator) -> Prop:
    """A patch of colour of no meaning."""
    corners = int(rng.integers(3, 12))
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radius = rng.uniform(0.2, 1.0) * rng.uniform(0.6, 1.0, corners)
    outline = [(float(r * np.cos(a)), float(r * np.sin(a))) for r, a in zip(radius, angles, strict=True)]
    return Prop(
        [outline], [Surface(rng.uniform(0.05, 0.9, 3), rng.uniform(0.1, 1), rng.uniform(0, 0.4), rng.uniform(0, 0.6))]
    )


def hills(rng: np.random.Generator, half: float) -> Prop:
    """A skyline `half` to either side: rolling hills, or the roofs of a city."""
    count = 25
    x = np.linspace(-half, half, count)
    if rng.random() < 0.6:
        phase, waves = rng.uniform(0, 6.3, 3), np.array([1.5, 3.5, 8.0]) * rng.uniform(0.7, 1.3)
        rise = sum(np.sin(x / half * w + p) / (k + 1) for k, (w, p) in enumerate(zip(waves, phase, strict=True)))
        top = half * rng.uniform(0.02, 0.09) * (1.6 + rise)
        outline = [(-half, 0.0), (half, 0.0), *((float(a), float(b)) for a, b in zip(x[::-1], top[::-1], strict=True))]
        colour = _leaf(rng) * rng.uniform(0.6, 1.2) + rng.uniform(0, 0.1)
        return Prop([outline], [Surface(colour, half / 20, grain=0.3)])
    top = half * rng.uniform(0.02, 0.12, count)
    steps = [
        point for a, b, z in zip(x, x[1:], top, strict=False) for point in ((float(a), float(z)), (float(b), float(z)))
    ]
    colour = rng.uniform(0.2, 0.55) * np.array([1.0, rng.uniform(0.9, 1.0), rng.uniform(0.8, 1.1)])
    return Prop([[(-half, 0.0), (half, 0.0), *steps[::-1]]], [Surface(colour, half / 40, mortar=0.35)])


def houses(rng: np.random.Generator, places: Sequence[Flat]) -> Mesh:
    """A plain house at each place."""
    solids: list[Solid] = []
    for x, y in places:
        wide, deep, tall = rng.uniform(2.0, 4.0), rng.uniform(2.0, 4.0), rng.uniform(1.2, 4.0)
        tone = rng.uniform(0.3, 0.85) * np.array([1.0, rng.uniform(0.8, 1.0), rng.uniform(0.6, 1.0)])
        wall = Paint((float(tone[0]), float(tone[1]), float(tone[2])), (0.5, 0.25), float(rng.uniform(0, 0.3)))
        dark = Paint((0.12, 0.13, 0.16), glow=True)
        low, high = (-wide / 2, -deep / 2, 0.0), (wide / 2, deep / 2, tall)
        house = box(low, high, wall)
        rows = max(1, round(tall / 1.2))
        for side in range(4):
            for row in range(rows):
                up = (row + 0.25) / rows
                house += [on_box(low, high, side, a, up, opening("rect", 0.4, 0.55), dark) for a in (0.25, 0.5, 0.75)]
        roof = Paint((0.4, float(rng.uniform(0.15, 0.35)), 0.2), (0.4, 0.3), 0.25)
        half, rise = wide / 2 + 0.15, rng.uniform(0.6, 1.6)
        gable = prism([(-half, tall), (half, tall), (0.0, tall + rise)], -deep / 2, deep / 2, wall, roof)
        pair = [house, gable]
        if rng.random() < 0.5:
            pair = [turned(solid) for solid in pair]
        solids += [moved(solid, x, y) for solid in pair]
    return mesh_of(solids)


def room(rng: np.random.Generator) -> Mesh:
    """The inside of a room around (0, 0), with furniture."""
    half, tall = rng.uniform(4.0, 6.0), rng.uniform(3.0, 5.0)
    tone = rng.uniform(0.4, 0.9, 3)
    paper = Paint(
        (float(tone[0]), float(tone[1]), float(tone[2])), (float(rng.uniform(0.2, 1)), 3.0), float(rng.uniform(0, 0.3))
    )
    shell = [
        face._replace(outline=list(face.outline)[::-1]) for face in box((-half, -half, 0), (half, half, tall), paper)
    ]
    solids: list[Solid] = [shell]
    for _ in range(int(rng.integers(3, 7))):
        x, y = rng.uniform(-half * 0.7, half * 0.7, 2)
        wide, deep, high = rng.uniform(0.5, 1.6), rng.uniform(0.5, 1.6), rng.uniform(0.4, 2.2)
        wood = rng.uniform(0.1, 0.7) * np.array([1.0, 0.8, 0.6])
        paint = Paint((float(wood[0]), float(wood[1]), float(wood[2])), (0.6, 0.3), float(rng.uniform(0, 0.3)))
        solids.append(
            box(
                (float(x - wide / 2), float(y - deep / 2), 0.0), (float(x + wide / 2), float(y + deep / 2), high), paint
            )
        )
    return mesh_of(solids)


def _ellipse(x: float, z: float, wide: float, high: float) -> list[Flat]:
    angles = np.arange(12) * 2 * np.pi / 12
    return [(float(x + wide * np.cos(a)), float(z + high * np.sin(a))) for a in angles]


def _leaf(rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([rng.uniform(0.12, 0.4), rng.uniform(0.28, 0.42), rng.uniform(0.08, 0.18)])


TREES: list[Callable[[np.random.Generator], Prop]] = [broadleaf, conifer, palm]
OCCLUDERS: list[Callable[[np.random.Generator], Prop]] = [
    person,
    person,
    broadleaf,
    conifer,
    palm,
    lamp,
    sign,
    car,
    bush,
]
