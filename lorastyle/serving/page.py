"""The page's colours: those of the report."""

from __future__ import annotations

from lorastyle.report.palette import ACCENT, INK, MUTED, PAPER, RULE

NAMED = {"ink": INK, "muted": MUTED, "rule": RULE, "paper": PAPER, "accent": ACCENT}


def page_css() -> str:
    """Rules that set them, by the reader's system and by the page's button."""
    light, dark = (_rules(theme) for theme in ("light", "dark"))
    return (
        f":root{{color-scheme:light;{light}}}\n"
        f"@media (prefers-color-scheme:dark){{:root{{color-scheme:dark;{dark}}}}}\n"
        f":root[data-theme=light]{{color-scheme:light;{light}}}\n"
        f":root[data-theme=dark]{{color-scheme:dark;{dark}}}\n"
    )


def _rules(theme: str) -> str:
    return "".join(f"--{name}:{colour[theme]};" for name, colour in NAMED.items())
