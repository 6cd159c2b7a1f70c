"""A panel of the page: one pair of axes with a caption above."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lorastyle.report.canvas import inline_svg, new_figure, styled
from lorastyle.report.markup import Markup, tag

PANEL_SIZE = (4.3, 3.1)
"""In inches; the page scales panels, so this sets the size of their text."""


def drawn_panel(
    draw: Callable[[Any], None],
    name: str,
    title: str,
    variables: Mapping[str, str],
    *,
    label: str | None = None,
    note: str | None = None,
    size: tuple[float, float] = PANEL_SIZE,
) -> Markup:
    """What `draw` draws on the axes that it is given, as a `figure` element.

    `name` and `variables` are those of `inline_svg`, and so is `label`, by default the title;
    `note` stands small beside the title.
    """
    with styled():
        figure, axes = new_figure(*size)
        draw(axes[0, 0])
        drawn = inline_svg(figure, name, title if label is None else label, variables)
    beside = None if note is None else tag("small", note)
    return tag("figure", tag("figcaption", title, beside), drawn)
