"""The subjects, drawn flat: each fills regions of a sheet around a place on the horizon.

Arguments of all: the sheet, the body's colour, the ambient light (3,), the place (x, y) and the
scale k in units of the side, and which way it faces.
"""

from __future__ import annotations

import math

import numpy as np

from lorastyle.corpus.procedural.sheet import FloatArray, Sheet


def _boat(
    s: Sheet, body: FloatArray, ambient: FloatArray, x: float, y: float, k: float, side: float
) -> None:
    u, v = (s.x - x) / k * side, (s.y - y - 0.10) / k
    s.fill((abs(u) < 0.012) & (v > -0.42) & (v < 0), 0.3 * ambient)
    sail = (u > 0.02) & (u < 0.24 * (1 + (v + 0.08) / 0.33)) & (v < -0.06) & (v > -0.40)
    s.fill(sail, np.asarray((0.95, 0.92, 0.84)) * ambient)
    s.fill((v > -0.03) & (v < 0.11) & (abs(u) < 0.30 - 0.9 * np.clip(v, 0, 1)), body)


def _house(
    s: Sheet, body: FloatArray, ambient: FloatArray, x: float, y: float, k: float, side: float
) -> None:
    u, v = (s.x - x) / k * side, (s.y - y - 0.12) / k
    s.fill((abs(u) < 0.22) & (v > -0.24) & (v < 0.06), body)
    roof = (v <= -0.22) & (v > -0.44) & (abs(u) < 0.29 * (v + 0.44) / 0.22)
    s.fill(roof, np.asarray((0.42, 0.24, 0.20)) * ambient)
    s.fill((abs(u + 0.08) < 0.045) & (v > -0.10) & (v < 0.06), 0.25 * ambient)
    pane = (abs(u - 0.10) < 0.045) & (abs(v + 0.10) < 0.05)
    s.fill(pane, np.asarray((1.0, 0.88, 0.5)) * (0.5 + 0.5 * ambient))


def _tree(
    s: Sheet, body: FloatArray, ambient: FloatArray, x: float, y: float, k: float, side: float
) -> None:
    u, v = (s.x - x) / k * side, (s.y - y - 0.14) / k
    trunk = (
        (abs(u - 0.03 * np.sin(9 * v)) < 0.035 + 0.12 * np.clip(v, 0, 1)) & (v > -0.3) & (v < 0.08)
    )
    s.fill(trunk, np.asarray((0.34, 0.22, 0.15)) * ambient)
    crown = np.hypot(u, (v + 0.38) / 0.9) < 0.24
    crown |= np.hypot(u - 0.15, v + 0.30) < 0.13
    crown |= np.hypot(u + 0.16, v + 0.27) < 0.12
    s.fill(crown, body)
    s.fill(crown & (np.hypot(u - 0.06, v + 0.42) > 0.22), body * np.float32(0.7))


def _mountain(
    s: Sheet, body: FloatArray, ambient: FloatArray, x: float, y: float, k: float, side: float
) -> None:
    u, v = (s.x - x) / k * side, (s.y - y) / k
    ridge = 0.025 * np.sin(23 * u) + 0.015 * np.sin(51 * u)
    far = (v < 0) & (-v < 0.22 - 0.5 * abs(u + 0.38) + ridge)
    s.fill(far, 0.75 * body + 0.15)
    main = (v < 0) & (-v < 0.44 - 0.95 * abs(u - 0.04) + ridge)
    s.fill(main, body)
    s.fill(main & (u > 0.04 + 0.3 * ridge), body * np.float32(0.66))
    cap = main & (-v > 0.31 + 0.8 * ridge)
    s.fill(cap, np.asarray((0.96, 0.97, 1.0)) * ambient)


def _tower(
    s: Sheet, body: FloatArray, ambient: FloatArray, x: float, y: float, k: float, side: float
) -> None:
    u, v = (s.x - x) / k * side, (s.y - y - 0.12) / k
    s.fill((np.hypot(u, (v - 0.05) / 0.5) < 0.26) & (v > -0.06), 0.35 * ambient)
    shaft = (abs(u) < 0.075 + 0.07 * (v + 0.5)) & (v > -0.50) & (v < 0.02)
    s.fill(shaft, body)
    s.fill(shaft & (np.sin(28 * v + 1) > 0.1), 0.35 * body + 0.6 * ambient)
    s.fill((abs(u) < 0.065) & (v > -0.60) & (v < -0.50), (1.0, 0.92, 0.55))
    s.fill((v < -0.58) & (v > -0.70) & (abs(u) < 0.10 * (v + 0.70) / 0.12), 0.25 * ambient)


def _flowers(
    s: Sheet, body: FloatArray, ambient: FloatArray, x: float, y: float, k: float, side: float
) -> None:
    u, v = (s.x - x) / k * side, (s.y - y - 0.2) / k
    leaves = np.hypot(u / 1.1, v + 0.30) < 0.24
    s.fill(leaves, np.asarray((0.22, 0.38, 0.18)) * ambient)
    vase = (abs(u) < 0.09 + 0.07 * np.sin(np.clip((v + 0.14) / 0.3, 0, 1) * math.pi)) & (v > -0.14)
    s.fill(vase & (v < 0.16), np.asarray((0.80, 0.82, 0.86)) * ambient)
    blooms = ((-0.17, -0.34), (0.0, -0.48), (0.18, -0.36), (-0.07, -0.26), (0.11, -0.22),
              (-0.25, -0.20), (0.27, -0.24))  # fmt: skip
    for i, (bx, by) in enumerate(blooms):
        distance = np.hypot(u - bx, v - by)
        s.fill(distance < 0.085, body * np.float32(1.0 - 0.08 * (i % 3)))
        s.fill(distance < 0.028, np.asarray((0.95, 0.85, 0.4)) * ambient)


def _fruit(
    s: Sheet, body: FloatArray, ambient: FloatArray, x: float, y: float, k: float, side: float
) -> None:
    u, v = (s.x - x) / k * side, (s.y - y - 0.18) / k
    for i, (bx, by) in enumerate(((-0.17, -0.13), (0.16, -0.12), (0.0, -0.15), (0.06, -0.28))):
        distance = np.hypot(u - bx, v - by)
        s.fill(distance < 0.115, body * np.float32(1.0 - 0.12 * (i % 2)))
        light_spot = np.hypot(u - bx + 0.035, v - by + 0.035) < 0.03
        s.colours[np.asarray(light_spot)] = 0.4 * body + 0.6
    bowl = (v > -0.10) & (np.hypot(u / 1.5, v + 0.10) < 0.22)
    s.fill(bowl, np.asarray((0.72, 0.76, 0.82)) * ambient)


def _head(s: Sheet, u: FloatArray, v: FloatArray, ambient: FloatArray) -> None:
    skin = np.asarray((0.90, 0.70, 0.56)) * ambient
    s.fill((abs(u) < 0.07) & (v > 0.10) & (v < 0.28), 0.85 * skin)
    face = np.hypot(u / 0.82, v) < 0.20
    s.fill(face, skin)
    s.fill(face & (u > 0.07 + 0.3 * abs(v)), 0.78 * skin)
    for eye in (-0.06, 0.07):
        s.fill(np.hypot((u - eye) / 1.5, v + 0.02) < 0.019, 0.18 * ambient)
    s.fill(np.hypot(u / 2.2, v - 0.10) < 0.022, np.asarray((0.72, 0.26, 0.24)) * ambient)


def _woman(
    s: Sheet, body: FloatArray, ambient: FloatArray, x: float, y: float, k: float, side: float
) -> None:
    k = 1.15 * k
    u, v = (s.x - x) / k * side, (s.y - 0.40 - 0.3 * (y - 0.55)) / k
    hair = np.asarray((0.30, 0.18, 0.12)) * ambient
    s.fill((np.hypot(u / 0.95, (v - 0.08) / 1.3) < 0.25), hair)
    s.fill((v > 0.24) & (np.hypot(u / 1.25, (v - 0.62) / 1.2) < 0.33), 0.75 * ambient)
    _head(s, np.asarray(u), np.asarray(v), ambient)
    s.fill(np.hypot(u / 2.4, (v + 0.13) / 0.55) < 0.145, body)
    s.fill((np.hypot(u / 1.15, (v + 0.17) / 1.0) < 0.17) & (v < -0.14), body * np.float32(0.85))


def _man(
    s: Sheet, body: FloatArray, ambient: FloatArray, x: float, y: float, k: float, side: float
) -> None:
    k = 1.15 * k
    u, v = (s.x - x) / k * side, (s.y - 0.40 - 0.3 * (y - 0.55)) / k
    hair = np.asarray((0.22, 0.16, 0.13)) * ambient
    s.fill((np.hypot(u / 0.9, (v + 0.05)) < 0.215) & (v < 0.0), hair)
    s.fill((v > 0.22) & (np.hypot(u / 1.35, (v - 0.66) / 1.25) < 0.36), body)
    _head(s, np.asarray(u), np.asarray(v), ambient)
    s.fill((abs(u) < 0.20) & (v < -0.13 - 0.1 * abs(u)) & (v > -0.24), hair)
    s.fill((v > 0.26) & (abs(u) < 0.11 - 0.35 * (v - 0.26)), 0.9 * ambient)


SUBJECTS = {
    "boat": _boat, "house": _house, "tree": _tree, "mountain": _mountain, "tower": _tower,
    "flowers": _flowers, "fruit": _fruit, "woman": _woman, "man": _man,
}  # fmt: skip
