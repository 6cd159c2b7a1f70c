"""The hand: colours mixed, strokes laid, borders inked, the surface showing through."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lorastyle.corpus.procedural.artists import Artist
from lorastyle.corpus.procedural.composition import compose
from lorastyle.corpus.procedural.scenes import Scene
from lorastyle.corpus.procedural.sheet import FloatArray

IntArray = NDArray[np.int64]

SUPERSAMPLE = 2  # Paint at twice the size and average: the only anti-aliasing there is.


def paint(
    artist: Artist, scene: Scene, rng: np.random.Generator, size: int = 64
) -> NDArray[np.uint8]:
    """Paint a scene by an artist's hand: uint8 (size, size, 3), a function of its arguments only.

    ``rng`` decides what varies between two paintings of one scene (placement, clouds, strokes);
    it is advanced. ``size`` is in pixels; handling scales with it.
    """
    n = SUPERSAMPLE * size
    flat, labels, centre = compose(artist, scene, rng, n)
    mixed = _mix_colours(artist, flat)
    canvas = _stroke(artist, mixed, labels, centre, rng)
    canvas = _outline(artist, canvas, labels)
    canvas = _surface(artist, canvas)
    canvas = np.float32(artist.contrast) * (canvas - 0.5) + 0.5
    # Sums of strided views: NumPy's mean over short axes is ten times slower.
    total = np.zeros((size, size, 3), np.float32)
    for i in range(SUPERSAMPLE):
        for j in range(SUPERSAMPLE):
            total += canvas[i::SUPERSAMPLE, j::SUPERSAMPLE]
    levels = total * np.float32(255 / SUPERSAMPLE**2) + np.float32(0.5)
    return np.asarray(np.clip(levels, 0, 255), np.uint8)


def _tone(colours: FloatArray) -> FloatArray:
    """Mean of the three channels: (..., 3) to (...)."""
    total = colours[..., 0] + colours[..., 1] + colours[..., 2]
    return np.asarray(total / np.float32(3), np.float32)


def _mix_colours(artist: Artist, flat: FloatArray) -> FloatArray:
    """Pull colours towards the artist's palette, then saturate and warm them."""
    colours = flat
    if artist.levels:
        colours = np.round(colours * artist.levels) / np.float32(artist.levels)
    palette = np.asarray(artist.palette, np.float32)
    pixels = colours.reshape(-1, 3)
    # Soft assignment: a hard one draws borders through every gradient. The exponent is bounded
    # (colours lie near [0, 1]), so no maximum needs to be subtracted.
    weights = np.exp(pixels @ (12 * palette.T) - 6 * (palette**2).sum(1))
    pulled = (weights @ palette) / (weights @ np.ones((len(palette), 1), np.float32))
    pixels = pixels + np.float32(artist.palette_pull) * (pulled - pixels)
    grey = _tone(pixels)[:, None]
    pixels = grey + np.float32(artist.saturation) * (pixels - grey)
    warm = np.asarray((artist.warmth, 0.2 * artist.warmth, -artist.warmth), np.float32)
    return np.asarray((pixels + warm).reshape(flat.shape), np.float32)


def _flow(
    artist: Artist, tone: FloatArray, rows: IntArray, columns: IntArray,
    centre: tuple[float, float],
) -> FloatArray:  # fmt: skip
    """Direction of the brush at pixels (m,), in radians."""
    n = tone.shape[0]
    x, y = columns / n, rows / n
    if artist.field == "straight":
        return np.full(rows.shape, artist.field_angle, np.float32)
    if artist.field == "radial":
        around = np.arctan2(y - centre[1] + 0.15, x - centre[0])
        return np.asarray(around + artist.field_angle, np.float32)
    if artist.field == "swirl":
        turn = 2 * math.pi * artist.field_scale
        wave = np.sin(turn * x + artist.field_angle) + np.cos(turn * y - artist.field_angle)
        return np.asarray(artist.field_angle + 1.1 * wave, np.float32)
    reach = max(n // 32, 1)
    up, down = np.maximum(rows - reach, 0), np.minimum(rows + reach, n - 1)
    left, right = np.maximum(columns - reach, 0), np.minimum(columns + reach, n - 1)
    dy = tone[down, columns] - tone[up, columns]
    dx = tone[rows, right] - tone[rows, left]
    # Along the form where there is one, in the artist's habitual direction elsewhere.
    flat = np.hypot(dx, dy) < 0.03
    return np.asarray(np.where(flat, artist.field_angle, np.arctan2(dx, -dy)), np.float32)


def _stroke(
    artist: Artist, mixed: FloatArray, labels: NDArray[np.int16], centre: tuple[float, float],
    rng: np.random.Generator,
) -> FloatArray:  # fmt: skip
    """Cover the ground with strokes; later strokes hide earlier ones."""
    n = mixed.shape[0]
    unit = n / 64
    length, width = artist.stroke_length * unit, artist.stroke_width * unit
    count = max(int(artist.coverage * n * n / (length * width)), 1)
    draws = rng.random((count, 4), dtype=np.float32)
    noise = rng.standard_normal((count, 3), dtype=np.float32)
    rows = (draws[:, 0] * n).astype(np.int64)
    columns = (draws[:, 1] * n).astype(np.int64)
    tone = _tone(mixed)
    angle = _flow(artist, tone, rows, columns, centre) + 0.12 * noise[:, 2]
    colour = mixed[rows, columns]
    # One value jitter a stroke, plus a smaller one of hue.
    jitter = np.float32(artist.colour_jitter)
    colour = colour + jitter * noise[:, :1] + 0.5 * jitter * (noise[:, [2, 0, 1]] - noise[:, :1])

    # Stroke coordinates: along in [-1, 1], across in [-1, 1], dense enough to leave no pinholes.
    along = np.linspace(-1, 1, max(int(length / 0.75) + 1, 2), dtype=np.float32)
    across = np.linspace(-1, 1, max(int(width / 0.75) + 1, 2), dtype=np.float32)
    taper = np.sqrt(1 - 0.85 * along**4)
    reach = 0.5 * length * (0.7 + 0.6 * draws[:, 2])
    bend = artist.stroke_bend * (2 * (artist.field_angle < math.pi / 2) - 1)
    side_step = 0.5 * width * taper[:, None] * across[None, :]
    arc = 0.5 * bend * along**2
    cos, sin = np.cos(angle), np.sin(angle)
    forward = reach[:, None] * along[None, :]
    sideways = (reach[:, None] * arc)[:, :, None] + side_step[None]
    px = (
        columns[:, None, None]
        + (cos[:, None] * forward)[:, :, None]
        - sin[:, None, None] * sideways
    )
    py = rows[:, None, None] + (sin[:, None] * forward)[:, :, None] + cos[:, None, None] * sideways
    ix, iy = np.rint(px).astype(np.int32), np.rint(py).astype(np.int32)
    keep = (ix >= 0) & (ix < n) & (iy >= 0) & (iy < n)
    flat_index = np.where(keep, iy * n + ix, 0)
    careful = (draws[:, 3] < artist.edge_fidelity)[:, None, None]
    same = labels.reshape(-1)[flat_index] == labels[rows, columns][:, None, None]
    keep &= same | ~careful

    # Repeated indices: the last assignment stays, which is exactly the painter's order.
    top = np.full(n * n, -1, np.int32)
    points = np.flatnonzero(keep)
    top[flat_index.reshape(-1)[points]] = points
    ground = (0.75 * mixed + 0.25 * np.asarray(artist.palette[0], np.float32)).reshape(-1, 3)
    covered = top >= 0
    point = top[covered]
    per_stroke = along.size * across.size
    ridge = np.float32(artist.bristle) * np.cos(across * np.float32(2.2 * math.pi))
    painted = colour[point // per_stroke] + ridge[point % across.size][:, None]
    ground[covered] = painted
    return ground.reshape(n, n, 3).astype(np.float32, copy=False)


def _outline(artist: Artist, canvas: FloatArray, labels: NDArray[np.int16]) -> FloatArray:
    """Darken the borders between regions, as far as the artist draws them."""
    if artist.outline < 0.05:
        return canvas
    n = labels.shape[0]
    border = np.zeros((n, n), np.float32)
    border[1:, :] += labels[1:, :] != labels[:-1, :]
    border[:, 1:] += labels[:, 1:] != labels[:, :-1]
    border = np.minimum(border, 1)
    for _ in range(max(round(artist.outline_width * n / 64) - 1, 0)):
        grown = border.copy()
        grown[1:, :] = np.maximum(grown[1:, :], border[:-1, :])
        grown[:, 1:] = np.maximum(grown[:, 1:], border[:, :-1])
        border = grown
    ink = np.float32(0.6) * np.asarray(artist.palette[-1], np.float32)
    return canvas + (np.float32(artist.outline) * border)[..., None] * (ink - canvas)


def _surface(artist: Artist, canvas: FloatArray) -> FloatArray:
    """Canvas weave, hatching in the darks, or ridges of a knife."""
    n = canvas.shape[0]
    strength = np.float32(artist.surface_strength)
    turn = np.float32(2 * math.pi * 64 / (n * artist.surface_period))
    axis = np.arange(n, dtype=np.float32) * turn
    if artist.surface == "weave":
        relief = 0.5 * (np.sin(axis)[None, :] + np.sin(axis)[:, None])
        return np.asarray(canvas + (strength * relief)[..., None], np.float32)
    cos, sin = np.float32(math.cos(artist.field_angle)), np.float32(math.sin(artist.field_angle))
    across = np.sin(cos * axis[:, None] - sin * axis[None, :])
    if artist.surface == "ridges":
        return np.asarray(canvas + (strength * across)[..., None], np.float32)
    darkness = np.clip(1.15 - _tone(canvas), 0, 1)
    lines = np.clip(across, 0, 1) * darkness * 1.6
    return np.asarray(canvas * (1 - strength * lines[..., None]), np.float32)
