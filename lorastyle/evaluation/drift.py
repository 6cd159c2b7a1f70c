"""What calibration does: its scale and shift, and how far held-out adapters are off.

Drift is the distance between an artist's mean over held-out adapters and over fit adapters, in
units of how far a fit adapter lies from its artist's mean: the root mean square of both, over
artists. Of one component, or of the first k together.

Means of few adapters differ by chance. Held-out adapters that spread as the fit ones do, about the
same means, have a drift of `expected_drift`; it does not depend on k.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lorastyle.embedding.calibration import artist_means
from lorastyle.embedding.style_space import StyleSpace
from lorastyle.evaluation.labelled import FloatArray, LabelledVectors
from lorastyle.evaluation.protocol import HELD_OUT, Setting, labelled_rows
from lorastyle.records import Role

CALIBRATION = "calibration"


@dataclass(frozen=True)
class Drift:
    """Of held-out adapters: by component, and of the first 1, 2, ... k together; both (k,)."""

    by_component: FloatArray
    together: FloatArray
    expected: float
    """Without any drift."""


def drift(fit: LabelledVectors, held_out: LabelledVectors) -> Drift | None:
    """The drift of held-out adapters; None below two artists who have both kinds.

    None too where no artist has two fit adapters, whose spread is the unit. A component on
    which the fit adapters of each artist coincide has infinite drift, or none.
    """
    common = np.intersect1d(fit.artists, held_out.artists)
    n_fit = np.array([(fit.artists == artist).sum() for artist in common])
    if len(common) < 2 or not (n_fit > 1).any():
        return None
    n_held_out = np.array([(held_out.artists == artist).sum() for artist in common])
    centres = artist_means(fit.vectors, fit.artists, common)
    moved = artist_means(held_out.vectors, held_out.artists, common) - centres
    squares = np.zeros(fit.vectors.shape[1])
    for artist, centre in zip(common, centres, strict=True):
        squares += ((fit.vectors[fit.artists == artist] - centre) ** 2).sum(axis=0)
    within = squares / (n_fit - 1).sum()
    off = (moved**2).mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        by_component = np.sqrt(np.where(off > 0, off / within, 0.0))
        together = np.sqrt(np.where(off.cumsum() > 0, off.cumsum() / within.cumsum(), 0.0))
    return Drift(by_component, together, expected_drift(n_fit, n_held_out))


def expected_drift(n_fit: FloatArray, n_held_out: FloatArray) -> float:
    """What chance alone gives: of artists with so many adapters each, both (n_artists,).

    >>> expected_drift(np.array([4]), np.array([4])).__round__(3)
    0.707
    """
    return float(np.sqrt((1 / np.asarray(n_fit) + 1 / np.asarray(n_held_out)).mean()))


def calibration_table(setting: Setting) -> pd.DataFrame:
    """A line for each task and component of a setting, all components that there are.

    Columns representation, sub_network, task, calibration (its form), component from 1, scale,
    shift, shift_of_range (the shift in units of the fit scores' range, as the paper gives it),
    and for each set (calibration, val, test) `SET_before` and `SET_after`: the component's drift.
    """
    parts = []
    for task, space in setting.spaces.items():
        calibration, n = space.calibration, space.n_components
        columns: dict[str, Any] = {
            "representation": setting.representation,
            "sub_network": setting.sub_network,
            "task": task,
            "calibration": setting.forms[task],
            "component": np.arange(1, n + 1),
            "scale": calibration.scale[:n],
            "shift": calibration.shift[:n],
            "shift_of_range": _shift_of_range(space),
        }
        for name, (before, after) in drifts(space).items():
            columns[f"{name}_before"] = before.by_component
            columns[f"{name}_after"] = after.by_component
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def calibration_summary(space: StyleSpace, n_components: int) -> dict[str, Any]:
    """A space's calibration at a PC count, in a few numbers (docs/formats.md)."""
    scale = space.calibration.scale[:n_components]
    found: dict[str, Any] = {
        "scale": {
            "first": float(scale[0]),
            "last": float(scale[-1]),
            "largest": float(scale.max()),
            "largest_at": int(scale.argmax()) + 1,
        },
        "largest_shift_of_range": float(np.abs(_shift_of_range(space)[:n_components]).max()),
        "drift": {},
    }
    for name, (before, after) in drifts(space).items():
        numbers = {
            "before": float(before.together[n_components - 1]),
            "after": float(after.together[n_components - 1]),
            "expected": before.expected,
        }
        if all(np.isfinite(number) for number in numbers.values()):
            found["drift"][name] = numbers
    return found


def drifts(space: StyleSpace) -> dict[str, tuple[Drift, Drift]]:
    """Before and after calibration, of each set that has a drift: calibration, val, test."""
    fit = labelled_rows(space, space.rows(Role.TRAIN))
    rows = {CALIBRATION: space.calibration_rows}
    rows |= {name: space.rows(role) for name, role in HELD_OUT[space.task].items()}
    found = {}
    for name, each in rows.items():
        before = drift(fit, labelled_rows(space, each, calibrated=False))
        after = drift(fit, labelled_rows(space, each))
        if before is not None and after is not None:
            found[name] = before, after
    return found


def _shift_of_range(space: StyleSpace) -> FloatArray:
    scores = space.scores(space.fit_rows)
    width = scores.max(axis=0) - scores.min(axis=0)
    shift = space.calibration.shift[: len(width)]
    return np.asarray(np.divide(shift, width, out=np.zeros_like(shift), where=width > 0))
