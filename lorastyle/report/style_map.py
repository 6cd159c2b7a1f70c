"""The interactive style map: what its script draws, and the frame it stands in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lorastyle.records import Role
from lorastyle.report.markup import Markup, raw, script_json, tag
from lorastyle.report.shown import NO_LABEL, FloatArray
from lorastyle.report.source import CALIBRATION, FIT, KINDS, ReportSource, SpaceScores
from lorastyle.report.words import KIND_NAMES, plain, space_name

RESOLUTION = 9999
"""Coordinates become whole numbers up to this: finer than any screen, half the bytes."""
# Of queries those that the explorer has.
SHAPES: Mapping[str, str] = {
    FIT: "circle",
    CALIBRATION: "bar",
    Role.VAL.value: "square",
    Role.TEST.value: "triangle",
    Role.QUERY_CALIBRATION.value: "cross",
    Role.QUERY_VAL.value: "turned",
    Role.QUERY_TEST.value: "diamond",
}
OUTLINES: Mapping[str, str] = {
    "circle": "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0",
    "triangle": "M0,-6L5.4,4H-5.4Z",
    "turned": "M0,6L5.4,-4H-5.4Z",
    "bar": "M-6,-2.2H6V2.2H-6Z",
    "square": "M-4,-4H4V4H-4Z",
    "diamond": "M0,-5.6L5,0L0,5.6L-5,0Z",
    "cross": "M-5,-2H-2V-5H2V-2H5V2H2V5H-2V2H-5Z",
    "star": (
        "M0,-10L2.6,-3.4L9.5,-3.1L4.1,1.3L5.9,8.1L0,4.2L-5.9,8.1L-4.1,1.3L-9.5,-3.1L-2.6,-3.4Z"
    ),
}
SHOWN_AT_FIRST = frozenset({FIT, Role.TEST.value})


def map_data(source: ReportSource) -> dict[str, Any]:
    """Plain values for the page's script; adapters and artists by number."""
    adapters = _all_adapters(source)
    number_of = {artist: number for number, artist in enumerate(source.artists)}
    kinds = present_kinds(source)
    kind_number = {kind: number for number, kind in enumerate(kinds)}
    return {
        "outlines": OUTLINES,
        "artists": [
            {
                "name": plain(artist),
                "genre": source.genres.index(source.genre_of[artist]),
                # Adapters that nobody named have no centre, and lie anywhere.
                "unlabelled": artist == NO_LABEL,
            }
            for artist in source.artists
        ],
        "genres": [plain(genre) for genre in source.genres],
        "kinds": [
            {
                "name": KIND_NAMES[kind],
                "shape": SHAPES[kind],
                "shown": kind in SHOWN_AT_FIRST,
                "fit": kind == FIT,
            }
            for kind in kinds
        ],
        "adapters": [
            [adapter_id, number_of[artist], kind_number[kind]]
            for adapter_id, (artist, kind) in adapters.items()
        ],
        "spaces": [
            {
                "name": space_name(key),
                "chosen": key == source.shown_space,
                "n_components": space.n_components,
                **_coordinates(space, list(adapters)),
            }
            for key, space in source.spaces.items()
        ],
    }


def map_frame(source: ReportSource, data: Mapping[str, Any], fallback: Markup) -> Markup:
    """The map's controls, canvas, legend and data; `fallback` shows where scripts do not run."""
    canvas = tag(
        "svg",
        id="map-canvas",
        role="img",
        aria_label="Style map: every adapter on two components of the style space",
    )
    stage = tag(
        "div",
        canvas,
        tag("div", id="map-tip", hidden=True),
        tag("noscript", fallback),
        class_="stage",
    )
    content = tag("script", script_json(data), type="application/json", id="map-data")
    return tag("div", _controls(data), stage, _legend(source), content, class_="map")


def present_kinds(source: ReportSource) -> list[str]:
    """Kinds of adapter that any space places, in their usual order."""
    present = {kind for space in source.spaces.values() for kind in space.adapters["kind"].unique()}
    return [kind for kind in KINDS if kind in present]


def symbol(shape: str) -> Markup:
    """A mark as a small picture for keys and legends."""
    return raw(f'<svg viewBox="-8 -8 16 16" aria-hidden="true"><path d="{OUTLINES[shape]}"/></svg>')


def _controls(data: Mapping[str, Any]) -> Markup:
    kinds = [
        tag(
            "label",
            tag("input", type="checkbox", data_kind=number, checked=kind["shown"]),
            symbol(kind["shape"]),
            kind["name"],
        )
        for number, kind in enumerate(data["kinds"])
    ]
    calibrated = tag("input", type="checkbox", id="map-calibrated", checked=True)
    return tag(
        "div",
        tag("label", "Space ", tag("select", id="map-space")),
        tag("label", "across ", tag("select", id="map-x", aria_label="component across")),
        tag("label", "up ", tag("select", id="map-y", aria_label="component up")),
        tag("label", calibrated, "calibrated"),
        tag("div", kinds, class_="kinds"),
        tag("span", symbol("star"), "centroid", class_="key"),
        class_="controls",
    )


def _legend(source: ReportSource) -> Markup:
    number_of = {artist: number for number, artist in enumerate(source.artists)}
    groups = []
    for place, genre in enumerate(source.genres):
        members = [artist for artist in source.artists if source.genre_of[artist] == genre]
        items = [tag("li", _legend_entry(artist, number_of[artist])) for artist in members]
        swatch = tag("i", style=f"background:var(--g{place})")
        groups.append(tag("section", tag("h3", swatch, plain(genre)), tag("ul", items)))
    return tag("div", groups, class_="legend", aria_label="Artists by genre", role="group")


def _legend_entry(artist: str, number: int) -> Markup:
    dot = tag("span", class_="dot", style=f"background:var(--a{number})")
    return tag(
        "button", dot, plain(artist), type="button", data_artist=number, aria_pressed="false"
    )


def _all_adapters(source: ReportSource) -> dict[str, tuple[str, str]]:
    """Artist and kind of every adapter that any space places."""
    adapters: dict[str, tuple[str, str]] = {}
    for space in source.spaces.values():
        rows = space.adapters
        adapters |= {
            str(adapter_id): (str(artist), str(kind))
            for adapter_id, artist, kind in zip(
                rows["adapter_id"], rows["artist"], rows["kind"], strict=True
            )
        }
    return adapters


def _coordinates(space: SpaceScores, adapter_ids: list[str]) -> dict[str, Any]:
    """Whole-number coordinates by adapter, and apart from them those before calibration.

    One scale for all components of a space keeps distances comparable.
    """
    both = [space.calibrated, *([] if space.uncalibrated is None else [space.uncalibrated])]
    largest = max((float(np.nanmax(np.abs(one), initial=0.0)) for one in both), default=0.0)
    scale = RESOLUTION / largest if largest > 0 else 1.0
    row_of = {str(name): row for row, name in enumerate(space.adapters["adapter_id"])}
    scores = [
        _whole(space.calibrated[row_of[name]], scale) if name in row_of else None
        for name in adapter_ids
    ]
    if space.uncalibrated is None:
        return {"scores": scores, "before": None}
    before = {
        number: whole
        for number, name in enumerate(adapter_ids)
        if name in row_of
        and (whole := _whole(space.uncalibrated[row_of[name]], scale)) is not None
        and whole != scores[number]
    }
    return {"scores": scores, "before": before}


def _whole(row: FloatArray, scale: float) -> list[int] | None:
    if not np.isfinite(row).all():
        return None
    return [round(float(value) * scale) for value in row]
