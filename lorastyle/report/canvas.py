"""Matplotlib without global state: a style, a place to draw, and how a drawing is written.

Each figure is drawn once and written thrice: PNG and SVG files for papers, and an
SVG inside the page whose colours are CSS variables, so that it follows the theme.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from lorastyle.report.markup import Markup, raw
from lorastyle.report.palette import (
    ACCENT,
    INK,
    MUTED,
    OTHER_COLOURS,
    PAPER,
    RULE,
    SUB_NETWORK_COLOURS,
    Palette,
)
from lorastyle.runs import write_atomically

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10.0,
    "axes.labelsize": 9.0,
    "axes.labelcolor": MUTED["light"],
    "axes.edgecolor": RULE["light"],
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": RULE["light"],
    "grid.linewidth": 0.6,
    "figure.facecolor": PAPER["light"],
    "savefig.facecolor": PAPER["light"],
    "text.parse_math": False,  # A name with two dollar signs is a name.
    "text.color": INK["light"],
    "xtick.color": RULE["light"],
    "ytick.color": RULE["light"],
    "xtick.labelcolor": MUTED["light"],
    "ytick.labelcolor": MUTED["light"],
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
}
PNG_DPI = 200


@contextmanager
def styled() -> Iterator[None]:
    """Draw and write figures in the house style; nothing stays changed afterwards."""
    import matplotlib

    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # Names in other scripts: the SVG shows them, the PNG boxes where its one font lacks them.
        warnings.filterwarnings(
            "ignore", message="Glyph .* missing from font", category=UserWarning
        )
        yield


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    """A figure of the given size in inches and its (rows, columns) array of axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def save_figure(figure: Any, stem: Path) -> tuple[Path, Path]:
    """Write `stem`.png and `stem`.svg; the same figure gives the same bytes of SVG."""
    png, svg = save_png(figure, stem), stem.with_suffix(".svg")
    write_atomically(svg, _svg(figure, stem.name, transparent=False))
    return png, svg


def save_png(figure: Any, stem: Path, dpi: int | None = None) -> Path:
    """Write `stem`.png alone, of a figure that is photographs: as SVG it would be no sharper."""
    _settle(figure)
    png, path = BytesIO(), stem.with_suffix(".png")
    figure.savefig(png, format="png", dpi=PNG_DPI if dpi is None else dpi)
    write_atomically(path, png.getvalue())
    return path


def inline_svg(figure: Any, name: str, label: str, variables: Mapping[str, str]) -> Markup:
    """A figure as an element of the page, its colours replaced by CSS variables.

    `name` keeps its ids apart from those of other figures; `label` is what a
    screen reader says; `variables` maps `#rrggbb` to a variable's name.
    """
    _settle(figure)
    text = _svg(figure, name, transparent=True)
    text = text[text.index("<svg") :]
    # The size is the page's business; viewBox keeps the proportions.
    text = re.sub(r'^<svg([^>]*?) width="[^"]*"', r"<svg\1", text, count=1)
    text = re.sub(r'^<svg([^>]*?) height="[^"]*"', r"<svg\1", text, count=1)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"#[0-9a-f]{6}\b", lambda found: _variable(found[0], variables), text)
    text = re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)
    text = re.sub(r"\n\s*", "\n", text)
    opening = '<svg role="img" aria-label="{}"'.format(
        label.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    )
    return raw(text.replace("<svg", opening, 1))


def css_variables(palette: Palette) -> dict[str, str]:
    """`#rrggbb` of the light theme to the name of the CSS variable that holds it."""
    variables = {
        INK["light"]: "--ink",
        MUTED["light"]: "--muted",
        RULE["light"]: "--rule",
        PAPER["light"]: "--paper",
    }
    for name, colour in SUB_NETWORK_COLOURS.items():
        variables.setdefault(colour["light"], f"--{name.replace('_', '-')}")
    for number, colour in enumerate(OTHER_COLOURS):
        variables.setdefault(colour["light"], f"--other-{number}")
    variables.setdefault(ACCENT["light"], "--accent")
    for number, genre in enumerate(sorted(palette.genres["light"])):
        variables.setdefault(palette.genre(genre), f"--g{number}")
    # An artist alone in a genre may have the genre's own colour: the same in both themes.
    for number, artist in enumerate(sorted(palette.artists["light"])):
        variables.setdefault(palette.artist(artist), f"--a{number}")
    return variables


def theme_rules(palette: Palette, theme: str) -> str:
    """CSS declarations of every colour of a theme."""
    named = {"ink": INK, "muted": MUTED, "rule": RULE, "paper": PAPER, "accent": ACCENT}
    rules = {f"--{name}": colour[theme] for name, colour in named.items()}
    for name, colour in SUB_NETWORK_COLOURS.items():
        rules[f"--{name.replace('_', '-')}"] = colour[theme]
    for number, colour in enumerate(OTHER_COLOURS):
        rules[f"--other-{number}"] = colour[theme]
    for number, genre in enumerate(sorted(palette.genres[theme])):
        rules[f"--g{number}"] = palette.genre(genre, theme)
    for number, artist in enumerate(sorted(palette.artists[theme])):
        rules[f"--a{number}"] = palette.artist(artist, theme)
    return "".join(f"{name}:{colour};" for name, colour in rules.items())


def _settle(figure: Any) -> None:
    """Lay the figure out once: each writing would do it again, for a third of the time."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")


def _svg(figure: Any, salt: str, *, transparent: bool) -> str:
    import matplotlib

    text = StringIO()
    with matplotlib.rc_context({"svg.hashsalt": salt}):
        figure.savefig(text, format="svg", metadata={"Date": None}, transparent=transparent)
    return re.sub(r' d="[^"]*"', lambda path: _NUMBER.sub(_shorter, path[0]), text.getvalue())


_NUMBER = re.compile(r"-?[0-9]+\.[0-9]{3,}")


def _shorter(number: re.Match[str]) -> str:
    """To 0.01 points: no screen or press shows more, and curves are most of a page."""
    return f"{float(number[0]):.2f}"


def _variable(colour: str, variables: Mapping[str, str]) -> str:
    name = variables.get(colour)
    return f"var({name})" if name else colour
