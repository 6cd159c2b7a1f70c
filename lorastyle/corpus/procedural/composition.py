"""A scene laid out flat: sky, ground and subject, in the colours of its light."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lorastyle.corpus.procedural.artists import Artist
from lorastyle.corpus.procedural.scenes import COLOURS, Scene
from lorastyle.corpus.procedural.sheet import FloatArray, Sheet
from lorastyle.corpus.procedural.subjects import SUBJECTS


@dataclass(frozen=True)
class _Light:
    sky_top: tuple[float, float, float]
    sky_low: tuple[float, float, float]
    ambient: tuple[float, float, float]
    haze: float


_LIGHTS = {
    "dawn": _Light((0.52, 0.63, 0.86), (0.99, 0.78, 0.68), (1.00, 0.86, 0.82), 0.15),
    "noon": _Light((0.32, 0.58, 0.93), (0.76, 0.89, 0.98), (1.00, 1.00, 1.00), 0.00),
    "dusk": _Light((0.34, 0.22, 0.48), (0.97, 0.50, 0.22), (0.80, 0.55, 0.52), 0.05),
    "night": _Light((0.04, 0.06, 0.20), (0.14, 0.20, 0.40), (0.34, 0.40, 0.62), 0.05),
    "fog": _Light((0.74, 0.76, 0.78), (0.88, 0.88, 0.87), (0.92, 0.93, 0.95), 0.50),
}
_GROUNDS = {
    "field": (0.40, 0.60, 0.24),
    "snow": (0.93, 0.95, 0.99),
    "sand": (0.88, 0.75, 0.50),
    "lake": (0.42, 0.60, 0.72),
    "sea": (0.16, 0.38, 0.50),
    "table": (0.55, 0.36, 0.22),
    "room": (0.60, 0.52, 0.46),
}


def compose(
    artist: Artist, scene: Scene, rng: np.random.Generator, n: int
) -> tuple[FloatArray, NDArray[np.int16], tuple[float, float]]:
    """Flat colours (n, n, 3), labels (n, n) and the subject's centre (x, y) in sides."""
    sheet, light = Sheet(n), _LIGHTS[scene.light]
    jitter = rng.normal(0.0, 1.0, 6)
    horizon = float(np.clip(artist.horizon + 0.03 * jitter[0], 0.3, 0.78))
    ambient = np.asarray(light.ambient, np.float32)
    ground = np.asarray(_GROUNDS[scene.place], np.float32) * ambient
    indoors = scene.place in ("table", "room")
    if indoors:
        _paint_wall(sheet, light, rng)
    else:
        _paint_sky(sheet, scene, light, horizon, rng)
    if scene.place != "room":
        _paint_ground(sheet, scene, light, horizon, ground, rng)
    body = np.asarray(COLOURS[scene.colour], np.float32) * ambient
    hazed = body * (1 - light.haze) + light.haze * np.asarray(light.sky_low, np.float32)
    spots: tuple[tuple[float, float], ...]
    side = 1.0 if rng.random() < 0.5 else -1.0
    zoom = artist.zoom * float(np.exp(0.06 * jitter[1]))
    if scene.count == 2:
        spots = ((0.5 - 0.22 * side, 0.85 * zoom), (0.5 + 0.2 * side, 0.7 * zoom))
    else:
        spots = ((0.5 + 0.07 * float(jitter[2]), zoom),)
    for x, scale in spots:
        SUBJECTS[scene.subject](sheet, hazed, ambient, x, horizon, scale, side)
    return sheet.colours, sheet.labels, (spots[0][0], horizon)


def _paint_sky(
    sheet: Sheet, scene: Scene, light: _Light, horizon: float, rng: np.random.Generator
) -> None:
    top, low = np.asarray(light.sky_top, np.float32), np.asarray(light.sky_low, np.float32)
    height = np.clip(sheet.y / horizon, 0, 1)[..., None]
    sheet.colours[:] = top + (low - top) * height
    phase = rng.random(3) * 2 * math.pi
    cloud = np.cos(9 * sheet.x + phase[0]) * np.cos(16 * sheet.y + phase[1])
    cloud = cloud + 0.6 * np.cos(17 * sheet.x - 9 * sheet.y + phase[2])
    veil = np.clip(cloud - 0.3, 0, 1)[..., None] * 0.45
    sheet.colours += (np.float32(0.5) * (low + 1) - sheet.colours) * veil * (0.3 + 0.7 * low.mean())
    sun_x, sun_y = 0.15 + 0.7 * rng.random(), horizon * (0.2 + 0.3 * rng.random())
    if scene.light in ("dusk", "dawn"):
        sun_y = horizon * (0.7 + 0.15 * rng.random())
    disc = (sheet.x - sun_x) ** 2 + (sheet.y - sun_y) ** 2 < 0.055**2
    if scene.light != "fog":
        shine = {"dawn": (1.0, 0.93, 0.75), "noon": (1.0, 0.97, 0.75), "dusk": (1.0, 0.75, 0.3)}
        sheet.fill(disc, shine.get(scene.light, (0.93, 0.93, 0.82)))


def _paint_wall(sheet: Sheet, light: _Light, rng: np.random.Generator) -> None:
    low = np.asarray(light.sky_low, np.float32)
    glow = np.clip(1.1 - 1.2 * np.hypot(sheet.x - 0.2 - 0.6 * rng.random(), sheet.y - 0.2), 0, 1)
    sheet.colours[:] = np.asarray(light.sky_top, np.float32) * 0.55 + low * 0.2
    sheet.colours += 0.35 * glow[..., None] * low


def _paint_ground(
    sheet: Sheet, scene: Scene, light: _Light, horizon: float, ground: FloatArray,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    below = np.asarray(sheet.y > horizon)
    if scene.place == "table":
        below = np.asarray(sheet.y > horizon + 0.08)
    low = np.asarray(light.sky_low, np.float32)
    depth = np.clip((sheet.y - horizon) / (1 - horizon), 0, 1)[..., None]
    if scene.place in ("lake", "sea"):
        ground = 0.55 * ground + 0.45 * low
        shade = ground * (1.1 - 0.45 * depth)
    else:
        shade = ground * (1.05 - 0.25 * depth)
    sheet.fill(below, shade[below])
    phase = float(rng.random() * 6.28)
    if scene.place == "sea":
        swell = np.sin(26 * sheet.y + 1.6 * np.sin(9 * sheet.x + phase) + phase)
        crest = np.asarray(below & (swell > 0.55))
        sheet.fill(crest, 0.45 * shade[crest] + 0.55 * (0.4 + 0.6 * low))
    elif scene.place == "lake":
        band = np.asarray(
            below & (np.sin(60 * sheet.y + phase) * np.sin(5 * sheet.x + phase) > 0.6)
        )
        sheet.colours[band] = 0.6 * shade[band] + 0.4 * low
    elif scene.place in ("field", "sand", "snow"):
        rise = horizon + 0.18 + 0.06 * np.sin(5 * sheet.x + phase)
        near = np.asarray(sheet.y > rise)
        sheet.fill(near, shade[near] * np.float32(0.84))
