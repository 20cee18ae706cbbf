"""One photo: where the camera stands, the light, the weather and what else is in view, all drawn from one generator."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from cairn.sources.synthetic import props
from cairn.sources.synthetic.renderer import (
    Camera,
    Canvas,
    Light,
    Surface,
    draw_flat,
    draw_mesh,
    look,
    open_canvas,
    shade,
)
from cairn.sources.synthetic.solids import Floats, Mesh

ASPECTS = ((4, 3), (4, 3), (3, 4), (1, 1), (16, 9))
AZIMUTH = np.radians(80)  # photos are taken from this far to either side of a landmark's front

GROUNDS = [
    Surface((0.52, 0.50, 0.46), 2.0, 0.2, 0.15),
    Surface((0.60, 0.52, 0.42), 1.2, 0.25, 0.2),
    Surface((0.26, 0.36, 0.14), 4.0, 0.0, 0.5),
    Surface((0.40, 0.42, 0.18), 4.0, 0.0, 0.4),
    Surface((0.74, 0.64, 0.46), 8.0, 0.0, 0.25),
    Surface((0.25, 0.25, 0.27), 3.0, 0.0, 0.2),
    Surface((0.82, 0.84, 0.88), 9.0, 0.0, 0.12),
    Surface((0.38, 0.30, 0.22), 4.0, 0.0, 0.5),
    Surface((0.20, 0.32, 0.40), 5.0, 0.0, 0.45),
]


class Setting(NamedTuple):
    """What surrounds a subject."""

    light: Light
    ground: Surface
    sky: Surface


def picture_size(rng: np.random.Generator, longer: int) -> tuple[int, int]:
    """Width and height of a usual shape whose longer side is `longer` pixels."""
    width, height = ASPECTS[rng.integers(len(ASPECTS))]
    return round(longer * width / max(width, height)), round(longer * height / max(width, height))


def photograph(mesh: Mesh, rng: np.random.Generator, longer: int) -> Image.Image:
    """A photo of a landmark among whatever happens to be around it: RGB, `longer` pixels on its longer side."""
    width, height = picture_size(rng, longer)
    low, high = mesh.boxes[:, 0].min(axis=0), mesh.boxes[:, 1].max(axis=0)
    camera = _stand(rng, low, high, width, height)
    setting = _setting(rng, camera)
    canvas = open_canvas(camera, setting.ground, setting.sky, setting.light)
    far = float(np.linalg.norm(camera.eye[:2])) + float(np.abs(high[:2]).max())
    _background(canvas, rng, setting.light, far)
    draw_mesh(canvas, mesh, setting.light)
    if rng.random() < 0.5:
        near = max(float(np.linalg.norm(camera.eye[:2])) - float(np.linalg.norm(high[:2])), 1.5)
        for _ in range(int(rng.integers(1, 6))):
            prop = props.OCCLUDERS[rng.integers(len(props.OCCLUDERS))](rng)
            _place(canvas, prop, rng, setting.light, rng.uniform(0.3, 0.95) * near)
    return _develop(canvas, rng, setting.light)


def other_scene(rng: np.random.Generator, longer: int) -> Image.Image:
    """A photo of anything but a landmark."""
    width, height = picture_size(rng, longer)
    subject = SUBJECTS[rng.integers(len(SUBJECTS))]
    eye = np.array([0.0, -rng.uniform(5.0, 12.0), rng.uniform(0.7, 2.2)])
    target = np.array([rng.uniform(-2, 2), 0.0, rng.uniform(0.2, 2.0)])
    camera = look(eye, target, rng.normal(0, 0.03), np.radians(rng.uniform(35, 75)), width, height)
    setting = _setting(rng, camera)
    canvas = open_canvas(camera, setting.ground, setting.sky, setting.light)
    if subject is not _interior:
        _background(canvas, rng, setting.light, 25.0)
    subject(canvas, rng, setting.light)
    return _develop(canvas, rng, setting.light)


def _stand(rng: np.random.Generator, low: Floats, high: Floats, width: int, height: int) -> Camera:
    """A place from which the landmark fills part of the picture, or more than all of it."""
    field = np.radians(rng.uniform(28, 72))
    closeup = rng.random() < 0.15
    fill = rng.uniform(1.25, 1.9) if closeup else float(np.exp(rng.uniform(np.log(0.5), np.log(1.2))))
    across, tall = float(np.linalg.norm((high - low)[:2])) * 0.8, float(high[2])
    half = np.tan(field / 2) / max(width, height)
    distance = max(across / (2 * half * width), tall / (2 * half * height)) / fill
    radius = float(np.linalg.norm(np.maximum(np.abs(low[:2]), np.abs(high[:2]))))
    distance = max(distance, 1.2 * radius + 1.0)
    azimuth = rng.uniform(-AZIMUTH, AZIMUTH)
    rise = rng.uniform(0.35, 1.6) if rng.random() < 0.65 else distance * np.tan(np.radians(rng.uniform(6, 38)))
    eye = np.array([np.sin(azimuth) * distance, -np.cos(azimuth) * distance, rise])
    loose = 0.3 if closeup else 0.16
    aside = rng.uniform(-loose, loose) * across
    target = np.array([np.cos(azimuth) * aside, np.sin(azimuth) * aside, tall * (0.47 + rng.uniform(-loose, loose))])
    return look(eye, target, rng.normal(0, 0.035), field, width, height)


def _setting(rng: np.random.Generator, camera: Camera) -> Setting:
    """Time of day, weather, ground."""
    hour = rng.choice(["day", "day", "day", "golden", "grey", "grey", "dusk", "night"])
    back = np.arctan2(-camera.forward[0], -camera.forward[1])  # the camera's side of the subject
    low, high = {"day": (25, 75), "golden": (7, 22), "grey": (40, 80), "dusk": (5, 15), "night": (8, 30)}[str(hour)]
    spread = 1.1 if hour == "night" else 2.4
    azimuth, elevation = back + rng.uniform(-spread, spread), np.radians(rng.uniform(low, high))
    sun = np.array([np.sin(azimuth) * np.cos(elevation), np.cos(azimuth) * np.cos(elevation), np.sin(elevation)])
    sunlight, skylight, sky, haze = _TINTS[str(hour)]
    tint = rng.uniform(0.85, 1.15, 3)
    fog = rng.random()
    distance = float(np.linalg.norm(camera.eye))
    density = 1 / (distance * rng.uniform(1.0, 2.2)) if fog < 0.15 else 1 / (distance * rng.uniform(4.0, 12.0))
    light = Light(
        sun=sun,
        sun_colour=np.array(sunlight) * rng.uniform(0.75, 1.2) * tint,
        sky_colour=np.array(skylight) * rng.uniform(0.8, 1.25),
        haze_colour=np.array(haze) * rng.uniform(0.85, 1.1, 3),
        haze=density,
        night=bool(hour in ("night", "dusk")),
    )
    ground = GROUNDS[rng.integers(len(GROUNDS))]
    ground = ground._replace(colour=np.array(ground.colour) * rng.uniform(0.8, 1.2) * rng.uniform(0.92, 1.08, 3))
    clouds = rng.uniform(0.05, 0.45) if hour != "night" else 0.3
    return Setting(light, ground, Surface(np.array(sky) * rng.uniform(0.85, 1.15, 3), rng.uniform(5, 30), 0.0, clouds))


Tint = tuple[float, float, float]
# hour -> sunlight (at night: floodlight), skylight, sky, haze
_TINTS: dict[str, tuple[Tint, Tint, Tint, Tint]] = {
    "day": ((0.80, 0.76, 0.68), (0.34, 0.38, 0.44), (0.32, 0.52, 0.82), (0.74, 0.80, 0.86)),
    "golden": ((1.00, 0.66, 0.38), (0.30, 0.30, 0.38), (0.50, 0.52, 0.66), (0.92, 0.72, 0.52)),
    "grey": ((0.12, 0.12, 0.12), (0.62, 0.64, 0.67), (0.66, 0.68, 0.70), (0.76, 0.78, 0.79)),
    "dusk": ((0.50, 0.32, 0.30), (0.26, 0.24, 0.36), (0.24, 0.22, 0.42), (0.62, 0.40, 0.40)),
    "night": ((0.80, 0.60, 0.36), (0.07, 0.08, 0.14), (0.03, 0.04, 0.09), (0.06, 0.07, 0.12)),
}


def _background(canvas: Canvas, rng: np.random.Generator, light: Light, far: float) -> None:
    """A skyline, sometimes houses and trees behind the subject."""
    ahead = canvas.camera.forward * np.array([1.0, 1.0, 0.0])
    ahead = ahead / max(float(np.linalg.norm(ahead)), 1e-6)
    if rng.random() < 0.6:
        horizon = canvas.camera.eye * np.array([1.0, 1.0, 0.0]) + ahead * far * 5
        draw_flat(canvas, *props.hills(rng, far * 9), horizon, light)
    if rng.random() < 0.3:
        level = np.array([ahead[1], -ahead[0], 0.0])
        spots = [
            canvas.camera.eye + ahead * far * rng.uniform(1.15, 1.8) + level * far * x
            for x in rng.uniform(-0.8, 0.8, 3)
        ]
        draw_mesh(canvas, props.houses(rng, [(float(spot[0]), float(spot[1])) for spot in spots]), light, shadows=False)
    if rng.random() < 0.6:
        tree = props.TREES[rng.integers(len(props.TREES))]
        for depth in np.sort(rng.uniform(1.05, 1.6, int(rng.integers(2, 9))))[::-1]:
            _place(canvas, tree(rng), rng, light, float(depth) * far)


def _place(canvas: Canvas, prop: props.Prop, rng: np.random.Generator, light: Light, depth: float) -> None:
    """Stand a prop on the ground somewhere in view, `depth` away from the camera."""
    camera = canvas.camera
    ahead = camera.forward * np.array([1.0, 1.0, 0.0])
    ahead = ahead / max(float(np.linalg.norm(ahead)), 1e-6)
    reach = camera.width / 2 / camera.focal * depth
    level = np.array([ahead[1], -ahead[0], 0.0])
    foot = camera.eye * np.array([1.0, 1.0, 0.0]) + ahead * depth + level * rng.uniform(-1.05, 1.05) * reach
    draw_flat(canvas, prop.outlines, prop.surfaces, foot, light)


def _crowd(canvas: Canvas, rng: np.random.Generator, light: Light) -> None:
    for depth in np.sort(rng.uniform(1.5, 14.0, int(rng.integers(12, 40))))[::-1]:
        _place(canvas, props.person(rng), rng, light, float(depth))


def _woods(canvas: Canvas, rng: np.random.Generator, light: Light) -> None:
    tree = props.TREES[rng.integers(len(props.TREES))]
    for depth in np.sort(rng.uniform(4.0, 20.0, int(rng.integers(4, 20))))[::-1]:
        _place(canvas, tree(rng), rng, light, float(depth))


def _traffic(canvas: Canvas, rng: np.random.Generator, light: Light) -> None:
    for depth in np.sort(rng.uniform(2.5, 12.0, int(rng.integers(2, 7))))[::-1]:
        _place(canvas, props.car(rng), rng, light, float(depth))


def _street(canvas: Canvas, rng: np.random.Generator, light: Light) -> None:
    count = int(rng.integers(1, 5))
    places = [(float((k - count / 2) * 4.5 + rng.uniform(-1, 1)), float(rng.uniform(1.5, 4))) for k in range(count)]
    draw_mesh(canvas, props.houses(rng, places), light)
    if rng.random() < 0.5:
        _place(canvas, props.car(rng), rng, light, 4.5)


def _animals(canvas: Canvas, rng: np.random.Generator, light: Light) -> None:
    for depth in np.sort(rng.uniform(1.6, 6.0, int(rng.integers(1, 4))))[::-1]:
        _place(canvas, props.beast(rng), rng, light, float(depth))


def _patches(canvas: Canvas, rng: np.random.Generator, light: Light) -> None:
    for depth in np.sort(rng.uniform(1.5, 5.0, int(rng.integers(8, 30))))[::-1]:
        prop = props.blob(rng)
        lifted = [[(x, z + rng.uniform(0, 2)) for x, z in outline] for outline in prop.outlines]
        _place(canvas, prop._replace(outlines=lifted), rng, light, float(depth))


def _interior(canvas: Canvas, rng: np.random.Generator, light: Light) -> None:
    lamp = light._replace(
        sun_colour=light.sun_colour * 0.3 + 0.2, sky_colour=light.sky_colour + 0.3, haze=1e-3, night=False
    )
    mesh = props.room(rng)
    shift = canvas.camera.eye - np.array([0.0, -3.2, canvas.camera.eye[2]])
    moved = mesh._replace(
        corners=mesh.corners + shift,
        middles=mesh.middles + shift,
        origins=mesh.origins + shift,
        boxes=mesh.boxes + shift,
    )
    draw_mesh(canvas, moved, lamp, shadows=False)


def _outlook(canvas: Canvas, rng: np.random.Generator, light: Light) -> None:
    ahead = canvas.camera.forward * np.array([1.0, 1.0, 0.0])
    for depth in (120.0, 70.0, 35.0):
        spot = canvas.camera.eye * np.array([1.0, 1.0, 0.0]) + ahead * depth
        draw_flat(canvas, *props.hills(rng, depth * 1.8), spot, light)


SUBJECTS: list[Callable[[Canvas, np.random.Generator, Light], None]] = [
    _crowd,
    _woods,
    _traffic,
    _street,
    _street,
    _animals,
    _patches,
    _interior,
    _outlook,
]


def _develop(canvas: Canvas, rng: np.random.Generator, light: Light) -> Image.Image:
    """What lens, sensor and software add: exposure, white balance, tone, vignette, blur, rain or snow, noise."""
    linear = shade(canvas, light)
    height, width = linear.shape[:2]
    gain = rng.uniform(0.75, 1.35) * rng.uniform(0.9, 1.1, 3)
    linear = linear * gain.astype(np.float32)
    if rng.random() < 0.4:
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        linear *= (1 - rng.uniform(0.1, 0.3) * (x * x + y * y))[:, :, None].astype(np.float32)
    grey = linear.mean(axis=2, keepdims=True)
    linear = grey + np.float32(rng.uniform(0.35, 1.25)) * (linear - grey)
    table = _tone_curve(rng.uniform(1.3, 2.0), rng.uniform(0.85, 1.15), rng.uniform(0, 0.06))
    steps = np.clip(linear * np.float32(1023), 0, 1023).astype(np.int32)
    image = Image.fromarray(table[steps].astype(np.uint8))
    if rng.random() < 0.15:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.4, 1.1))))
    if rng.random() < 0.12:
        _weather(image, rng)
    noise = rng.standard_normal(linear.shape, dtype=np.float32) * np.float32(rng.uniform(1.0, 9.0))
    return Image.fromarray(np.clip(np.rint(np.asarray(image, dtype=np.float32) + noise), 0, 255).astype(np.uint8))


def _tone_curve(gamma: float, contrast: float, lift: float) -> NDArray[np.float32]:
    """Values 0..255 for 1024 steps of linear light."""
    curve = (np.arange(1024) / 1023) ** (1 / gamma)
    curve = lift + (1 - lift) * (0.5 + contrast * (curve - 0.5))
    return np.rint(np.clip(curve, 0, 1) * 255).astype(np.float32)


def _weather(image: Image.Image, rng: np.random.Generator) -> None:
    """Streaks of rain or flakes of snow, drawn into the picture."""
    draw = ImageDraw.Draw(image, "RGBA")
    count, snow = int(image.width * image.height * rng.uniform(0.004, 0.012)), rng.random() < 0.5
    slant, long = rng.uniform(-0.3, 0.3), rng.uniform(0.02, 0.06) * image.height
    places = rng.uniform(0, 1, (count, 2)) * (image.width, image.height)
    if snow:
        for x, y in places.tolist():
            size = 0.5 if (x + y) % 3 < 2 else 1.0
            draw.ellipse((x - size, y - size, x + size, y + size), fill=(245, 245, 250, 190))
        return
    for x, y in places[: count // 3].tolist():
        draw.line((x, y, x + slant * long, y + long), fill=(200, 205, 215, 90))
