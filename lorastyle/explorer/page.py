"""The explorer's page: its frame, without the data."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from lorastyle.explorer.plotting_library import plotly_script
from lorastyle.report.markup import Markup, raw, tag
from lorastyle.report.page import THEME_ICON
from lorastyle.report.pages import asset, plain_colours

SCRIPTS = (
    *("files.js", "geometry.js", "state.js", "view.js", "figure.js", "names.js"),
    *("panels.js", "controls.js", "pointer.js", "main.js"),
)
# The browser itself then refuses whatever would leave the page. Plotly's WebGL plots compile
# their drawing commands, for which 'unsafe-eval' stands: they hold numbers, never names.
_POLICY = (
    "default-src 'none'; img-src data: blob:{beside}; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline' 'unsafe-eval'{beside}; base-uri 'none'; form-action 'none'"
)
PLOT_KEYS = (
    "Arrow keys go from adapter to adapter, Enter to what is known of it. Shift and an arrow list "
    "an area that begins at the adapter and grows that way; in 3D they turn the plot. Plus and "
    "minus zoom, Escape lets go."
)
BESIDE = " 'self' file:"
"""Added to the policy of a page that lies in a folder: scripts and pictures beside it."""


def make_page(
    name: str, data: Sequence[Markup], about: str, *, in_folder: bool, report: str | None = None
) -> str:
    """The whole document. `data` are elements that hold it, `report` the address of the report."""
    library = (
        tag("script", src="data/plotly.js") if in_folder else tag("script", raw(plotly_script()))
    )
    body = tag(
        "body",
        _header(name, report),
        tag("main", _controls(), _stage(), _details(about)),
        *data,
        library,
        [tag("script", raw(script)) for script in _scripts()],
    )
    head = _head(name, BESIDE if in_folder else "")
    return "<!doctype html>\n" + tag("html", head, body, lang="en") + "\n"


def _head(name: str, beside: str) -> Markup:
    colours = plain_colours()
    policy = _POLICY.format(beside=beside)
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{name}: lorastyle explorer"),
        tag("style", raw(colours + _asset("explorer.css"))),
    )


def _header(name: str, report: str | None) -> Markup:
    return tag(
        "header",
        tag("button", "Go to the plot", type="button", id="skip"),
        tag(
            "div",
            tag("p", "lorastyle explorer", class_="eyebrow"),
            tag("h1", name),
            tag("p", id="count", role="status"),
        ),
        None if report is None else tag("a", "Report", href=report),
        tag("button", THEME_ICON, type="button", id="theme", aria_label="Light or dark"),
    )


def _controls() -> Markup:
    search = tag("input", type="search", id="search", placeholder="Artist or adapter")
    return tag(
        "section",
        tag("h2", "What is shown", id="controls-title", class_="unseen"),
        tag(
            "div",
            tag("label", tag("span", "Search", class_="head"), search),
            tag("p", id="found-count", class_="hint", role="status"),
            tag("ul", id="found", class_="adapters", hidden=True),
        ),
        _axes(),
        tag(
            "fieldset",
            _head_of(tag("legend", tag("h3", "Kind"))),
            tag("ul", id="kinds", class_="values"),
        ),
        tag(
            "div",
            _head_of(
                tag("h3", id="legend-title"),
                tag("button", "all", type="button", id="legend-all", aria_label="Show all"),
                tag("button", "none", type="button", id="legend-none", aria_label="Show none"),
            ),
            tag("ul", id="legend", class_="values"),
            tag("p", id="legend-more", class_="hint"),
            id="legend-box",
        ),
        id="controls",
        aria_labelledby="controls-title",
    )


def _axes() -> Markup:
    def chosen(label: str, name: str) -> Markup:
        return tag("label", label, tag("select", id=name), class_="field")

    def axis(label: str, name: str) -> Markup:
        return tag("label", label, tag("select", id=name), id=f"{name}-label")

    def switch(label: str, name: str) -> Markup:
        return tag("label", tag("input", type="checkbox", id=name), label)

    dims = [
        tag("label", tag("input", type="radio", name="dims", id=f"dims-{n}"), f"{n}D")
        for n in (2, 3)
    ]
    return tag(
        "div",
        chosen("Style space", "space"),
        tag("p", id="space-note", class_="hint"),
        tag("button", type="button", id="space-other", class_="plain", hidden=True),
        tag("div", dims, class_="dims", role="radiogroup", aria_label="Dimensions"),
        tag("div", axis("across", "x"), axis("up", "y"), axis("deep", "z"), class_="axes"),
        chosen("Colour by", "colour"),
        tag(
            "div",
            switch("centroids", "centroids"),
            switch("hulls", "hulls"),
            switch("equal scales", "equal"),
            class_="switches",
        ),
        tag("p", id="hull-note", class_="hint", role="status"),
        tag(
            "p",
            "This browser offers no WebGL: there is no 3D, and many adapters are slow.",
            id="gl-note",
            class_="hint",
            hidden=True,
        ),
    )


def _head_of(*children: Markup) -> Markup:
    return tag("div", *children, class_="head")


def _stage() -> Markup:
    def tool(label: str, name: str, title: str, named: str | None = None) -> Markup:
        return tag("button", label, type="button", id=name, title=title, aria_label=named)

    tools = tag(
        "div",
        tool("Move", "tool-pan", "Drag moves the plot"),
        tool("Box", "tool-select", "Drag selects a rectangle"),
        tool("Lasso", "tool-lasso", "Drag selects an area"),
        tool("+", "nearer", "Nearer", "Nearer"),
        tool("−", "farther", "Farther", "Farther"),
        tool("Fit", "fit", "Show all again"),
        class_="tools",
        role="group",
        aria_label="Of the plot",
    )
    return tag(
        "section",
        tools,
        tag(
            "div",
            id="plot",
            tabindex=0,
            role="application",
            aria_label="Plot",
            aria_describedby="plot-keys",
        ),
        tag("div", id="names", aria_hidden="true"),
        tag("div", id="tip", hidden=True),
        tag("p", "Loading …", id="loading", role="status"),
        tag("p", PLOT_KEYS, id="plot-keys", class_="unseen"),
        tag("noscript", "The explorer needs JavaScript; it asks the network for nothing."),
        id="stage",
        aria_label="Plot of the adapters",
    )


def _details(about: str) -> Markup:
    welcome = tag(
        "div",
        tag("h2", "Adapters by style"),
        tag("p", "Each mark is an adapter. Near marks have like weights."),
        tag(
            "p",
            "Click one for its training images and nearest neighbours; draw a box or a lasso to "
            "list an area. The page’s address holds what you see.",
            class_="hint",
        ),
        tag("p", "On the keyboard: search, or go to the plot. ", PLOT_KEYS, class_="hint"),
        id="welcome",
    )
    return tag(
        "aside",
        welcome,
        tag("p", id="said", class_="unseen", role="status"),
        tag("div", id="picked", hidden=True, tabindex=-1),
        tag("div", id="area", class_="adapters", hidden=True),
        tag("p", about, id="about", class_="hint"),
        id="details",
        aria_label="Details",
    )


def _scripts() -> list[str]:
    """The page's own, in order; what it shares with the report's map goes before the first."""
    first, *others = map(_asset, SCRIPTS)
    return [asset("hull.js") + first, *others]


def _asset(name: str) -> str:
    return resources.files("lorastyle.explorer").joinpath("web", name).read_text(encoding="utf-8")
