"""Solids that landmarks are built from (boxes, turned bodies, extruded outlines) and the mesh the renderer draws.

Axes: x to the right, y away from the front, z up; the ground is z = 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Colour = tuple[float, float, float]
Point = tuple[float, float, float]
Flat = tuple[float, float]


class Paint(NamedTuple):
    """How a face looks: `colour` is linear 0..1, a brick's size is in the mesh's units (0: no bricks)."""

    colour: Colour
    brick: Flat = (0.0, 0.0)
    mortar: float = 0.0  # how much darker the joints are, 0..1
    grain: float = 0.12  # how strongly the surface is mottled, 0..1
    glow: bool = False  # lit from inside at night


class Face(NamedTuple):
    """A flat outline, anticlockwise seen from outside. Of one solid, a higher `layer` is painted over a lower one."""

    outline: Sequence[Point]
    paint: Paint
    layer: int = 0


Solid = list[Face]


class Mesh(NamedTuple):
    """Faces of all solids as arrays; f faces, s solids, n corners."""

    corners: Floats  # [n, 3]
    faces: list[tuple[int, ...]]  # indexes of corners
    normals: Floats  # [f, 3], of length 1
    middles: Floats  # [f, 3]
    origins: Floats  # [f, 3], where texture coordinates are 0
    across: Floats  # [f, 3], direction of the texture's u over the brick's width
    upward: Floats  # [f, 3], ... of its v over the brick's height
    colours: Floats  # [f, 3]
    mortar: Floats  # [f]
    grain: Floats  # [f]
    glow: NDArray[np.bool_]  # [f]
    layers: NDArray[np.int64]  # [f]
    solid_of: NDArray[np.int64]  # [f]
    boxes: Floats  # [s, 2, 3], least and greatest corner of each solid


def box(low: Point, high: Point, paint: Paint) -> Solid:
    """An upright box from its least to its greatest corner; the underside is left out."""
    (x0, y0, z0), (x1, y1, z1) = low, high
    return [
        Face([(x0, y0, z0), (x1, y0, z0), (x1, y0, z1), (x0, y0, z1)], paint),
        Face([(x1, y0, z0), (x1, y1, z0), (x1, y1, z1), (x1, y0, z1)], paint),
        Face([(x1, y1, z0), (x0, y1, z0), (x0, y1, z1), (x1, y1, z1)], paint),
        Face([(x0, y1, z0), (x0, y0, z0), (x0, y0, z1), (x0, y1, z1)], paint),
        Face([(x0, y0, z1), (x1, y0, z1), (x1, y1, z1), (x0, y1, z1)], paint),
    ]


def slab(width: float, depth: float, bottom: float, top: float, paint: Paint, at: Flat = (0.0, 0.0)) -> Solid:
    """A box standing over the point `at`."""
    x, y = at
    return box((x - width / 2, y - depth / 2, bottom), (x + width / 2, y + depth / 2, top), paint)


def lathe(profile: Sequence[Flat], sides: int, paint: Paint, at: Flat = (0.0, 0.0), turn: float = 0.0) -> Solid:
    """A body turned on an upright axis over `at`: `profile` is (radius, height) from the bottom to the top.

    A side's corner lies at angle `turn` (radians).
    """
    angles = turn + np.arange(sides) * 2 * np.pi / sides
    circle = [(float(np.cos(angle)), float(np.sin(angle))) for angle in angles]
    rings = [[(at[0] + r * x, at[1] + r * y, z) for x, y in circle] for r, z in profile]
    solid: Solid = []
    for (low, (r0, _)), (high, (r1, _)) in zip(
        zip(rings, profile, strict=True), zip(rings[1:], profile[1:], strict=True), strict=False
    ):
        for j in range(sides):
            k = (j + 1) % sides
            outline = [low[j], low[k], high[k], high[j]]
            if r1 == 0:
                outline = [low[j], low[k], high[j]]
            elif r0 == 0:
                outline = [low[j], high[k], high[j]]
            solid.append(Face(outline, paint))
    if profile[-1][0] > 0:
        solid.append(Face(rings[-1], paint))
    return solid


def prism(outline: Sequence[Flat], near: float, far: float, paint: Paint, edge: Paint | None = None) -> Solid:
    """An (x, z) outline, anticlockwise seen from the front, drawn out from y = `near` to `far`; may be hollow below.

    `edge` paints the sides along y (a roof's slopes, an arch's inside).
    """
    front = [(x, near, z) for x, z in outline]
    back = [(x, far, z) for x, z in outline]
    solid = [Face(front, paint, 1), Face(back[::-1], paint, 1)]
    for j in range(len(outline)):
        k = (j + 1) % len(outline)
        if outline[j][1] > 0 or outline[k][1] > 0:
            solid.append(Face([front[j], back[j], back[k], front[k]], edge or paint))
    return solid


def turned(solid: Solid) -> Solid:
    """The solid after a quarter turn around the z axis: what ran along y runs along x."""
    return [Face([(-y, x, z) for x, y, z in face.outline], face.paint, face.layer) for face in solid]


def moved(solid: Solid, dx: float, dy: float, dz: float = 0.0) -> Solid:
    """The solid at another place."""
    return [Face([(x + dx, y + dy, z + dz) for x, y, z in face.outline], face.paint, face.layer) for face in solid]


def opening(shape: str, width: float, height: float) -> list[Flat]:
    """An outline for a window or a door standing on (0, 0): rect, round, pointed or disc."""
    half = width / 2
    if shape == "rect":
        return [(-half, 0.0), (half, 0.0), (half, height), (-half, height)]
    if shape == "disc":
        turns = np.arange(10) * 2 * np.pi / 10
        return [(half * float(np.cos(a)), half + half * float(np.sin(a))) for a in turns]
    spring = max(height - half * (1.0 if shape == "round" else 1.5), 0.3 * height)
    rise = height - spring
    bow = (
        [(0.92, 0.38), (0.71, 0.71), (0.38, 0.92), (0.0, 1.0)]
        if shape == "round"
        else [(0.8, 0.45), (0.45, 0.8), (0.0, 1.0)]
    )
    right = [(half * x, spring + rise * z) for x, z in bow]
    left = [(-x, z) for x, z in reversed(right[:-1])]
    return [(-half, 0.0), (half, 0.0), (half, spring), *right, *left, (-half, spring)]


def on_wall(foot: Point, along: Flat, shape: Sequence[Flat], paint: Paint) -> Face:
    """An (across, up) outline laid on an upright wall: `along` is the wall's direction, left to right from outside."""
    x, y, z = foot
    return Face([(x + along[0] * u, y + along[1] * u, z + v) for u, v in shape], paint, 2)


def on_box(low: Point, high: Point, side: int, across: float, up: float, shape: Sequence[Flat], paint: Paint) -> Face:
    """An outline on the front (0), right (1), back (2) or left (3) of a box.

    `across` and `up` say where, as shares 0..1 of the wall.
    """
    (x0, y0, z0), (x1, y1, z1) = low, high
    starts = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    (ax, ay), (bx, by) = starts[side], starts[(side + 1) % 4]
    length = max(abs(bx - ax), abs(by - ay))
    foot = (ax + (bx - ax) * across, ay + (by - ay) * across, z0 + (z1 - z0) * up)
    return on_wall(foot, ((bx - ax) / length, (by - ay) / length), shape, paint)


def on_lathe(
    radius: float,
    sides: int,
    turn: float,
    side: int,
    z: float,
    shape: Sequence[Flat],
    paint: Paint,
    at: Flat = (0.0, 0.0),
) -> Face:
    """An outline on one facet of an upright turned body whose facets have `radius` at their corners."""
    start, end = (turn + (side + k) * 2 * np.pi / sides for k in (0, 1))
    ax, ay, bx, by = (float(radius * f(angle)) for angle in (start, end) for f in (np.cos, np.sin))
    length = float(np.hypot(bx - ax, by - ay))
    foot = (at[0] + (ax + bx) / 2, at[1] + (ay + by) / 2, z)
    return on_wall(foot, ((bx - ax) / length, (by - ay) / length), shape, paint)


def mesh_of(solids: Iterable[Solid], scale: float = 1.0) -> Mesh:
    """All solids as one mesh, `scale` times as large; brick sizes are taken after scaling."""
    kept = [solid for solid in solids if solid]
    flat = [face for solid in kept for face in solid]
    counts = np.array([len(face.outline) for face in flat])
    corners = np.array([point for face in flat for point in face.outline]) * scale
    starts = np.concatenate([[0], np.cumsum(counts)])
    solid_of = np.repeat(np.arange(len(kept)), [len(solid) for solid in kept])
    normals = _normals(corners, starts)
    across, upward = _texture_axes(normals)
    bricks = np.array([face.paint.brick for face in flat])
    steps = np.where(bricks > 0, bricks, 1.0)
    first = starts[np.concatenate([[0], np.flatnonzero(np.diff(solid_of)) + 1])]
    boxes = np.stack([np.minimum.reduceat(corners, first), np.maximum.reduceat(corners, first)], axis=1)
    return Mesh(
        corners=corners,
        faces=[tuple(range(a, b)) for a, b in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)],
        normals=normals,
        middles=np.add.reduceat(corners, starts[:-1]) / counts[:, None],
        origins=corners[starts[:-1]],
        across=across / steps[:, :1],
        upward=upward / steps[:, 1:],
        colours=np.array([face.paint.colour for face in flat]),
        mortar=np.array([face.paint.mortar for face in flat]) * (bricks[:, 0] > 0),
        grain=np.array([face.paint.grain for face in flat]),
        glow=np.array([face.paint.glow for face in flat]),
        layers=np.array([face.layer for face in flat]),
        solid_of=solid_of,
        boxes=boxes,
    )


def _normals(corners: Floats, starts: NDArray[np.int64]) -> Floats:
    """Newell's normal of each outline: half the sum of the cross products of neighbouring corners."""
    following = np.arange(1, len(corners) + 1)
    following[starts[1:] - 1] = starts[:-1]
    sums = np.add.reduceat(np.cross(corners, corners[following]), starts[:-1])
    unit: Floats = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return unit


def _texture_axes(normals: Floats) -> tuple[Floats, Floats]:
    """Two directions in each plane: one level, one as upright as the plane allows."""
    across = np.stack([-normals[:, 1], normals[:, 0], np.zeros(len(normals))], axis=1)
    length = np.linalg.norm(across, axis=1, keepdims=True)
    across = np.where(length > 1e-6, across / np.maximum(length, 1e-6), np.array([1.0, 0.0, 0.0]))
    return across, np.cross(normals, across)
