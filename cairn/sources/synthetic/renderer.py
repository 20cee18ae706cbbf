"""A small deferred renderer: the painter's algorithm writes an id per pixel, then all pixels are shaded at once.

Every id is a plane with a paint, so depth and texture coordinates follow from the pixel's place alone: over a plane,
1/depth, u/depth and v/depth are linear in the picture's coordinates. Pixels see only exact float32 arithmetic and
table look-ups, which keeps the bytes the same on different processors.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cairn.sources.synthetic.solids import Flat, Floats, Mesh

OVERSAMPLING = 2
CLOUD_HEIGHT = 60.0  # over the camera
NEAR = 0.05  # depth below which nothing is drawn
NOISE = 256  # pixels of the tileable noise's side
NOISE_STEPS = 16  # noise pixels for a texture unit


class Camera(NamedTuple):
    """A pinhole camera. `focal` and the picture's size are in pixels."""

    eye: Floats  # [3]
    right: Floats  # [3]
    up: Floats  # [3]
    forward: Floats  # [3]
    focal: float
    width: int
    height: int


class Light(NamedTuple):
    """Sun, sky and air. Colours are linear, 1 is white in plain daylight."""

    sun: Floats  # [3], towards the sun
    sun_colour: Floats  # [3]
    sky_colour: Floats  # [3], from all around
    haze_colour: Floats  # [3], what distance fades into
    haze: float  # 1 / the distance at which half is haze
    night: bool


class Surface(NamedTuple):
    """A paint for the ground, the sky or a flat cut-out. `step` is the texture unit in the world's units."""

    colour: Sequence[float] | NDArray[np.float64]
    step: float = 1.0
    mortar: float = 0.0
    grain: float = 0.2


class Canvas(NamedTuple):
    """An id per pixel, and what each id means."""

    camera: Camera
    image: Image.Image
    draw: ImageDraw.ImageDraw
    rows: list[Floats]  # blocks of [k, 14]: 1/depth, u/depth, v/depth (3 coefficients each), colour (3), mortar, grain


def look(eye: Floats, target: Floats, roll: float, field: float, width: int, height: int) -> Camera:
    """A camera at `eye` that looks at `target`; `roll` and `field` (of the longer side) are in radians."""
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.array([forward[1], -forward[0], 0.0])
    right = right / np.linalg.norm(right)
    up = np.cross(right, forward)
    cos, sin = np.cos(roll), np.sin(roll)
    right, up = cos * right + sin * up, cos * up - sin * right
    width, height = width * OVERSAMPLING, height * OVERSAMPLING
    return Camera(eye, right, up, forward, max(width, height) / 2 / float(np.tan(field / 2)), width, height)


def open_canvas(camera: Camera, ground: Surface, sky: Surface, light: Light) -> Canvas:
    """A canvas that shows the sky (id 0) over an endless ground (id 1; 2 where it lies in shadow)."""
    image = Image.new("I", (camera.width, camera.height), 0)
    canvas = Canvas(camera, image, ImageDraw.Draw(image), [])
    level = np.array([[0.0, 0.0, 1.0]])
    axes = np.array([[1.0, 0.0, 0.0]]), np.array([[0.0, 1.0, 0.0]])
    lit = _lit(np.array([ground.colour]), level, light)
    shadowed = _lit(np.array([ground.colour]), level, light._replace(sun_colour=light.sun_colour * 0.12))
    overhead = np.array([[0.0, 0.0, camera.eye[2] + CLOUD_HEIGHT]])
    floor = np.array([[0.0, 0.0, 0.0]])
    for surface, point, colour in (
        (sky, overhead, np.array([sky.colour])),
        (ground, floor, lit),
        (ground, floor, shadowed),
    ):
        plane = _plane(camera, level, point, point, axes[0] / surface.step, axes[1] / surface.step)
        canvas.rows.append(np.concatenate([plane, colour, [[surface.mortar, surface.grain]]], axis=1))
    _fill_ground(canvas)
    return canvas


def _fill_ground(canvas: Canvas) -> None:
    camera = canvas.camera
    x, y = _rays(camera.width, camera.height)
    down = x * (camera.right[2] / camera.focal) + y * (camera.up[2] / camera.focal) + camera.forward[2] < 0
    canvas.image.paste(Image.fromarray(down.reshape(camera.height, camera.width).astype(np.int32)))


def draw_mesh(canvas: Canvas, mesh: Mesh, light: Light, shadows: bool = True) -> None:
    """Paint a mesh, its far parts first, and before it the shadow that it throws on the ground."""
    camera = canvas.camera
    if shadows and light.sun[2] > 0.05 and light.sun_colour.max() > 0.1:
        _draw_shadow(canvas, mesh, light)
    start = sum(len(block) for block in canvas.rows)
    plane = _plane(camera, mesh.normals, mesh.middles, mesh.origins, mesh.across, mesh.upward)
    colours = _lit(mesh.colours, mesh.normals, light)
    if light.night:
        colours[mesh.glow] = (1.0, 0.78, 0.4)
    canvas.rows.append(np.concatenate([plane, colours, mesh.mortar[:, None], mesh.grain[:, None]], axis=1))
    points, depth = project(camera, mesh.corners)
    facing = np.einsum("fk,fk->f", mesh.normals, camera.eye - mesh.middles) > 0
    rank = np.empty(len(mesh.boxes), dtype=np.int64)
    rank[far_to_near(mesh.boxes, camera.eye)] = np.arange(len(mesh.boxes))
    distance = np.linalg.norm(mesh.middles - camera.eye, axis=1)
    order = np.lexsort((-distance, mesh.layers, rank[mesh.solid_of]))
    pixels = [tuple(point) for point in points.tolist()]
    close = (depth < NEAR).tolist()
    for f in order[facing[order]].tolist():
        face = mesh.faces[f]
        if not any(close[i] for i in face):
            canvas.draw.polygon([pixels[i] for i in face], fill=start + f)


def _draw_shadow(canvas: Canvas, mesh: Mesh, light: Light) -> None:
    dropped = mesh.corners - mesh.corners[:, 2:] / light.sun[2] * light.sun
    points, depth = project(canvas.camera, dropped)
    pixels = [tuple(point) for point in points.tolist()]
    close = (depth < NEAR).tolist()
    for f in np.flatnonzero((mesh.normals @ light.sun > 0) & (mesh.layers < 2)).tolist():
        face = mesh.faces[f]
        if not any(close[i] for i in face):
            canvas.draw.polygon([pixels[i] for i in face], fill=2)


def draw_flat(
    canvas: Canvas, outlines: Sequence[Sequence[Flat]], surfaces: Sequence[Surface], foot: Floats, light: Light
) -> None:
    """Paint cut-outs that stand upright at `foot` and face the camera; outlines are (across, up), in world units."""
    camera = canvas.camera
    depth = float((foot - camera.eye) @ camera.forward)
    if depth < NEAR:
        return
    start = sum(len(block) for block in canvas.rows)
    level = np.array([camera.right[0], camera.right[1], 0.0])
    level = level / np.linalg.norm(level)
    rows = np.zeros((len(outlines), 14))
    rows[:, 2] = 1 / depth
    steps = np.array([surface.step for surface in surfaces])
    rows[:, 3] = rows[:, 7] = 1 / steps / camera.focal
    facing = np.broadcast_to(-camera.forward, (len(outlines), 3))
    rows[:, 9:12] = _lit(np.array([surface.colour for surface in surfaces]), facing, light)
    rows[:, 12:] = [(surface.mortar, surface.grain) for surface in surfaces]
    canvas.rows.append(rows)
    for index, outline in enumerate(outlines):
        flat = np.asarray(outline)
        points, _ = project(camera, foot + flat[:, :1] * level + flat[:, 1:] * np.array([0.0, 0.0, 1.0]))
        canvas.draw.polygon([tuple(point) for point in points.tolist()], fill=start + index)


def project(camera: Camera, points: Floats) -> tuple[NDArray[np.int64], Floats]:
    """[n, 3] points -> whole pixels [n, 2] and depths [n]. Pixels of points behind the camera mean nothing."""
    relative = points - camera.eye
    depth = relative @ camera.forward
    safe = np.maximum(depth, NEAR)
    x = camera.width / 2 + camera.focal * (relative @ camera.right) / safe
    y = camera.height / 2 - camera.focal * (relative @ camera.up) / safe
    return np.clip(np.rint(np.stack([x, y], axis=1)), -20000, 20000).astype(np.int64), depth


def far_to_near(boxes: Floats, eye: Floats) -> NDArray[np.int64]:
    """An order in which boxes [s, 2, 3] can be painted over each other as seen from `eye`.

    Where a plane parts two boxes, the one on the eye's side comes later; boxes that interlock go by distance.
    """
    low, high = boxes[:, 0], boxes[:, 1]
    below = high[:, None] <= low[None] + 1e-9  # [a, b, axis]: a lies wholly below b
    hidden = below & (eye >= high[:, None]) | below.transpose(1, 0, 2) & (eye <= low[:, None])
    behind = np.asarray(hidden.any(axis=2))  # [a, b]: a cannot cover b
    behind &= ~behind.T
    waiting = behind.sum(axis=0)
    distance = np.linalg.norm((low + high) / 2 - eye, axis=1)
    left = np.ones(len(boxes), dtype=bool)
    order = []
    for _ in range(len(boxes)):
        free = left & (waiting == 0)
        pick = int(np.argmax(np.where(free if free.any() else left, distance, -1.0)))
        order.append(pick)
        left[pick] = False
        waiting -= behind[pick]
    return np.array(order, dtype=np.int64)


def shade(canvas: Canvas, light: Light) -> NDArray[np.float32]:
    """The finished picture, float32 [height, width, 3], linear, averaged down from the oversampled canvas."""
    camera = canvas.camera
    table = np.concatenate(canvas.rows).astype(np.float32).T.copy()
    ids = np.asarray(canvas.image).ravel().astype(np.intp)
    x, y = _rays(camera.width, camera.height)
    column = [values.take(ids) for values in table]
    near = np.maximum(column[0] * x + column[1] * y + column[2], np.float32(1e-3))
    depth = np.float32(1) / near
    u = (column[3] * x + column[4] * y + column[5]) * depth
    v = (column[6] * x + column[7] * y + column[8]) * depth
    tone = (
        np.float32(1) + column[13] * _noise_at(u, v) - column[12] * _joints(u, v) * np.minimum(near * 18, np.float32(1))
    )
    haze = depth * np.float32(light.haze)
    clear = np.float32(1) / (np.float32(1) + haze * haze)
    tone *= clear
    haze = np.float32(1) - clear
    shape = (camera.height // OVERSAMPLING, OVERSAMPLING, camera.width // OVERSAMPLING, OVERSAMPLING)
    channels = []
    for k in range(3):
        fine = (column[9 + k] * tone + haze * np.float32(light.haze_colour[k])).reshape(shape)
        rows = fine[:, 0] + fine[:, 1]
        channels.append((rows[:, :, 0] + rows[:, :, 1]) * np.float32(1 / OVERSAMPLING**2))
    return np.stack(channels, axis=2)


def _joints(u: NDArray[np.float32], v: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 in the joints of a running bond of unit bricks, else 0."""
    course = np.floor(v)
    along = u + course * np.float32(0.5)
    return (((v - course) < np.float32(0.14)) | ((along - np.floor(along)) < np.float32(0.09))).astype(np.float32)


def _noise_at(u: NDArray[np.float32], v: NDArray[np.float32]) -> NDArray[np.float32]:
    column = (u * np.float32(NOISE_STEPS)).astype(np.int32) & (NOISE - 1)
    row = (v * np.float32(NOISE_STEPS)).astype(np.int32) & (NOISE - 1)
    return noise().take((row * NOISE + column).astype(np.intp))


@cache
def noise() -> NDArray[np.float32]:
    """Tileable noise of several octaves, float32 [NOISE * NOISE], mean about 0, within -1..1."""
    rng = np.random.default_rng(20260101)
    total = np.zeros((NOISE, NOISE))
    for octave, cells in enumerate((8, 16, 32, 64, 128)):
        block = NOISE // cells
        layer = rng.uniform(-1, 1, (cells, cells)).repeat(block, axis=0).repeat(block, axis=1)
        for axis in (0, 1):
            layer = np.mean([np.roll(layer, step, axis) for step in range(block)], axis=0)
        total += layer * 0.72**octave
    return np.clip(total / 1.6, -1, 1).astype(np.float32).ravel()


@cache
def _rays(width: int, height: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Each pixel's centre to the right of and above the picture's middle, float32 [height * width] each."""
    x = np.arange(width, dtype=np.float32) + np.float32(0.5 - width / 2)
    y = np.float32(height / 2 - 0.5) - np.arange(height, dtype=np.float32)
    return np.tile(x, height), np.repeat(y, width)


def _plane(camera: Camera, normals: Floats, points: Floats, origins: Floats, across: Floats, upward: Floats) -> Floats:
    """[k, 9]: coefficients of (x, y, 1) for 1/depth, u/depth and v/depth over each plane."""
    basis = np.stack([camera.right / camera.focal, camera.up / camera.focal, camera.forward], axis=1)  # [3, 3]
    gap = np.einsum("kd,kd->k", normals, points - camera.eye)
    gap = np.where(np.abs(gap) < 1e-6, 1e-6, gap)
    nearness = normals @ basis / gap[:, None]
    offset = camera.eye - origins
    blocks = [nearness]
    for axis in (across, upward):
        blocks.append(axis @ basis + np.einsum("kd,kd->k", axis, offset)[:, None] * nearness)
    return np.concatenate(blocks, axis=1)


def _lit(colours: Floats, normals: Floats, light: Light) -> Floats:
    """Lambert's law for the sun, and a sky that is brighter above than below."""
    facing = np.maximum(normals @ light.sun, 0)[:, None]
    return colours * (light.sky_colour * (0.72 + 0.28 * normals[:, 2:]) + light.sun_colour * facing)
