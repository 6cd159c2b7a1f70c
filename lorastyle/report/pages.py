"""What pages have in common: the colours of both themes, and scripts."""

from __future__ import annotations

from importlib import resources

from lorastyle.report.palette import ACCENT, INK, MUTED, PAPER, RULE


def both_themes(light: str, dark: str) -> str:
    """Rules that set the one or the other, by the reader's system and by the page's button."""
    return (
        f":root{{color-scheme:light;{light}}}"
        f"@media (prefers-color-scheme:dark){{:root{{color-scheme:dark;{dark}}}}}"
        f":root[data-theme=light]{{color-scheme:light;{light}}}"
        f":root[data-theme=dark]{{color-scheme:dark;{dark}}}\n"
    )


def plain_colours() -> str:
    """The same for a page whose only colours are those of ink and paper."""
    return both_themes(_plain("light"), _plain("dark"))


def _plain(theme: str) -> str:
    named = {"ink": INK, "muted": MUTED, "rule": RULE, "paper": PAPER, "accent": ACCENT}
    return "".join(f"--{name}:{colour[theme]};" for name, colour in named.items())


def asset(name: str) -> str:
    """A script or style sheet of the report's."""
    return resources.files("lorastyle.report").joinpath(name).read_text(encoding="utf-8")
