"""HTML without surprises: whatever is not markup already is escaped.

Artist names, file names and settings come from strangers. Text becomes markup
only here, and only `tag` and `raw` make it.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | int | float | None | Iterable["Child"]
VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})


def raw(text: str) -> Markup:
    """Vouch for text: it is HTML made by this package."""
    return Markup(text)


def tag(name: str, /, *children: Child, **attributes: str | int | float | bool | None) -> Markup:
    """One element. `class_` and `for_` lose their underscore, `data_x` becomes `data-x`.

    >>> tag("b", "<you & me>", class_="name", hidden=True, title=None)
    '<b class="name" hidden>&lt;you &amp; me&gt;</b>'
    """
    opening = name
    for key, value in attributes.items():
        attribute = key.rstrip("_").replace("_", "-")
        if value is True:
            opening += f" {attribute}"
        elif value is not None and value is not False:
            opening += f' {attribute}="{html.escape(str(value), quote=True)}"'
    if name in VOID:
        return Markup(f"<{opening}>")
    return Markup(f"<{opening}>{join(children)}</{name}>")


def join(children: Child) -> Markup:
    """Children one after the other, escaped where they are not markup."""
    if children is None:
        return Markup("")
    if isinstance(children, Markup):
        return children
    if isinstance(children, str):
        return Markup(html.escape(children, quote=False))
    if isinstance(children, (int, float)):
        return Markup(html.escape(f"{children}"))
    return Markup("".join(join(child) for child in children))


def script_json(value: object) -> Markup:
    r"""JSON that cannot end the script element it stands in.

    >>> script_json({"name": "</script><!--"})
    '{"name":"\\u003c/script\\u003e\\u003c!--"}'
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
