"""Expressions that name parts of a U-Net, as in `full-cross_attention`: how they are written.

    expression = term { ("+" | "-") term }      from left to right: union, or without
    term       = name { "&" name }              intersection

What a name means in a layout is in `adapters.module_sets`; docs/sub-networks.md has a table.
"""

from __future__ import annotations

import difflib
import re
from functools import lru_cache
from typing import NamedTuple

from lorastyle.errors import ConfigError
from lorastyle.records import SUB_NETWORKS, digest

PROJECTIONS: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out", "ff_in", "ff_out")
"""The Linear layers of a transformer block; attention ones of both attentions."""
STAGES: tuple[str, ...] = ("down", "mid", "up")
NAMES: tuple[str, ...] = ("full", *SUB_NETWORKS, "attention", *STAGES, *PROJECTIONS)
"""Names that are the same in every layout."""
FAMILIES: tuple[str, ...] = (
    "by-sub-network",
    "by-block",
    "by-level",
    "by-resolution",
    "by-projection",
    "by-module",
)
"""Lists of sub-networks; they stand for what a layout has, and never in an expression."""
MAX_LENGTH = 200

_ALLOWED = re.compile(r"[A-Za-z0-9_.*&+\- ]*")
_LEVEL = re.compile(r"(down|up)\.(?:0|[1-9][0-9]?)")
_RESOLUTION = re.compile(r"res([1-9][0-9]*)")
_EXAMPLES = ("down.1", "up.2", "res1", "res2", "res4", "res8")
_FILE_NAME = re.compile(r"[a-z0-9_][a-z0-9_.]*")
_LONGEST_FILE_NAME = 60


class Term(NamedTuple):
    """One step of an expression."""

    operator: str
    """`+` or `-`; of the first term `+`."""
    names: tuple[str, ...]
    """Whose intersection it is."""


def check(expression: str) -> str:
    """The expression without spaces. Raises ConfigError where it is none.

    >>> check("full - cross_attention & to_v")
    'full-cross_attention&to_v'
    """
    return "".join(
        term.operator * (place > 0) + "&".join(term.names)
        for place, term in enumerate(parse(expression))
    )


def check_entry(text: str) -> str:
    """As `check`, of an entry of a list: that may also be a family.

    >>> check_entry("by-block")
    'by-block'
    """
    entry = text.strip()
    if entry in FAMILIES:
        return entry
    if entry.startswith("by-"):
        raise ConfigError(
            f"there is no family {_shown(entry)} of sub-networks; "
            f"{_advice(entry, FAMILIES, 'choose one of: ' + ', '.join(FAMILIES))}"
        )
    return check(entry)


@lru_cache(maxsize=4096)
def parse(expression: str) -> tuple[Term, ...]:
    """The terms, in order. Raises ConfigError where a part is no name."""
    if len(expression) > MAX_LENGTH:
        raise ConfigError(
            f"the sub-network {expression[:20]!r}... has {len(expression)} characters, "
            f"at most {MAX_LENGTH} are read; use a pattern with *"
        )
    allowed = _ALLOWED.match(expression)
    if allowed is None or allowed.end() < len(expression):
        wrong = expression[allowed.end() if allowed else 0]
        raise ConfigError(
            f"the sub-network {expression!r} has the character {wrong!r}; "
            "use letters, digits, and _ . * & + -"
        )
    operators = ["+", *re.findall(r"[+-]", expression)]
    terms = re.split(r"[+-]", expression)
    return tuple(
        Term(operator, tuple(_name(part.strip(), expression) for part in term.split("&")))
        for operator, term in zip(operators, terms, strict=True)
    )


def file_name(expression: str) -> str:
    """What a file of this sub-network is called: short, and without signs.

    >>> file_name("down.1"), file_name("full-up")
    ('down.1', 'full_up-daea5db4')
    """
    if len(expression) <= _LONGEST_FILE_NAME and _FILE_NAME.fullmatch(expression):
        return expression
    words = re.sub(r"[^a-z0-9_.]+", "_", expression.lower()).strip("_.")
    return f"{words[:_LONGEST_FILE_NAME]}-{digest(expression)[:8]}"


def _name(word: str, expression: str) -> str:
    if not word:
        raise ConfigError(
            f"the sub-network {expression!r} lacks a name beside a sign; "
            "write a name on either side of each & + -"
        )
    if word in NAMES or _LEVEL.fullmatch(word) or _is_resolution(word) or _is_of_modules(word):
        return word
    here = f"the sub-network {expression!r}"
    if word == "by" or word in FAMILIES:
        raise ConfigError(
            f"{here} has a family in it ({', '.join(FAMILIES)}); give a family alone, in a list"
        )
    usual = (
        f"use {', '.join(NAMES)}, down.N, up.N, res1, res2, res4 and so on, "
        "a module's dotted name, or a pattern with *"
    )
    where = f"{here} has {word!r}" if word != expression.strip() else f"there is no {here[4:]}"
    raise ConfigError(f"{where}; {_advice(word, (*NAMES, *_EXAMPLES), usual)}")


def _is_resolution(word: str) -> bool:
    found = _RESOLUTION.fullmatch(word)
    return found is not None and int(found[1]).bit_count() == 1


def _is_of_modules(word: str) -> bool:
    """A pattern, or a dotted name: base models have no target module without a dot."""
    first, dot, _ = word.partition(".")
    return " " not in word and first not in NAMES and bool(dot or "*" in word)


def _advice(word: str, known: tuple[str, ...], otherwise: str) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.7)
    return f"did you mean {near[0]!r}?" if near else otherwise


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}...")
