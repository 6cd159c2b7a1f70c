"""plotly.js, as the installed `plotly` package carries it: nothing is downloaded."""

from __future__ import annotations

from importlib import resources


def plotly_script() -> str:
    """The library's text. It may stand in a script element: it nowhere ends one.

    Raises ValueError for a release of which that is not true.
    """
    text = resources.files("plotly").joinpath("package_data", "plotly.min.js").read_text("utf-8")
    if "</script" in text.lower() or "<!--" in text:
        raise ValueError("this release of plotly cannot stand in a page; install another")
    return text
