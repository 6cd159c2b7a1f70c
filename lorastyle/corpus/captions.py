"""Captions that say what is painted and never by whom.

Section 3 of the paper: each caption carries a random identifier token and no
textual hint of the artist. A name left in it would let the text encoder, not
the pictures, tell artists apart.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

PARTICLES = frozenset(
    ("van", "von", "der", "den", "ter", "ten", "del", "della", "dos", "the", "and", "iii")
)
"""Parts of names that are also everyday words, so scrubbed only with a name after them."""
MIN_PART_LETTERS = 3
TOKEN_LENGTH = 6
CONSONANTS = "bcdfghjklmnpqrstvwxz"
TOKEN_ALPHABET = CONSONANTS + "23456789"
"""No vowels: a token must not be a word that the text encoder knows."""

_BEFORE_NAME = (
    r"(?:\b(?:(?:painted|drawn|made)\s+by|by|in\s+the\s+(?:style|manner)\s+of)\s+)?"
    rf"(?:\b(?:{'|'.join(sorted(PARTICLES))})\s+)*"
)
_LEFT_DANGLING = re.compile(r"(?:[\s,;:.\-]|\b(?:by|of|from|after|in|with|and|the|a|an))+$", re.I)


def name_pattern(artists: Iterable[str], words: Iterable[str] = ()) -> re.Pattern[str] | None:
    """A pattern of artists' names, their telling parts, and `words`; None for none.

    It matches folded text (`fold`), whole words only, in any case, with any
    separator between the parts of a name, and a possessive after it. The group
    `name` is the name alone, without what leads to it ("painted by").
    """
    phrases: set[tuple[str, ...]] = set()
    for artist in artists:
        parts = tuple(re.findall(r"\w+", fold(artist).replace("_", " ")))
        phrases.add(parts)
        phrases.update((part,) for part in parts if _is_telling(part))
    phrases.update(tuple(fold(word).split()) for word in words)
    phrases.discard(())
    # Longest first, or "claude monet" would lose its parts one by one.
    ordered = sorted(phrases, key=lambda phrase: (-len(phrase), phrase))
    alternatives = "|".join(r"[\s_.\-]+".join(map(re.escape, phrase)) for phrase in ordered)
    if not alternatives:
        return None
    name = rf"(?<![^\W_])(?P<name>{alternatives})(?:['’]s)?(?![^\W_])"
    return re.compile(_BEFORE_NAME + name, re.IGNORECASE)


def scrub(caption: str, pattern: re.Pattern[str] | None) -> str:
    """The caption without what `pattern` matches, and without what that leaves dangling.

    >>> scrub("A pond, painted by Claude Monet.", name_pattern(["claude_monet"]))
    'A pond'
    """
    return scrub_naming(caption, pattern)[0]


def scrub_naming(caption: str, pattern: re.Pattern[str] | None) -> tuple[str, tuple[str, ...]]:
    """The same, and the names and words that were taken out, as they were written.

    >>> scrub_naming("A pond, painted by Claude Monet.", name_pattern(["claude_monet"]))
    ('A pond', ('Claude Monet',))
    """
    text = " ".join(unicodedata.normalize("NFC", caption).split())
    if pattern is None or not pattern.search(fold(text)):
        return text, ()
    kept, names, end = [], [], 0
    for match in pattern.finditer(fold(text)):
        kept.append(text[end : match.start()])
        names.append(text[slice(*match.span("name"))])
        end = match.end()
    rest = re.sub(r"\s+", " ", "".join([*kept, text[end:]]))
    rest = re.sub(r"\s+([,;:.])", r"\1", re.sub(r"\(\s*\)", "", rest))
    rest = re.sub(r"[,;:]+([,;:.])", r"\1", rest)
    return _LEFT_DANGLING.sub("", rest).strip(" ,;:"), tuple(names)


def fold(text: str) -> str:
    """Text without accents, character for character, so that positions stay valid.

    >>> fold("Dürer")
    'Durer'
    """
    composed = unicodedata.normalize("NFC", text)
    return "".join(unicodedata.normalize("NFKD", character)[0] for character in composed)


def identifier_token(*key: object) -> str:
    """The random identifier `[V]` of an adapter: a pronounceless word drawn from `key`."""
    value = int.from_bytes(hashlib.sha256(repr(key).encode()).digest())
    letters = []
    for position in range(TOKEN_LENGTH):
        alphabet = TOKEN_ALPHABET if position else CONSONANTS
        value, letter = divmod(value, len(alphabet))
        letters.append(alphabet[letter])
    return "".join(letters)


def with_identifier(token: str, caption: str) -> str:
    """The text an adapter is trained with: its token, if it has one, before the caption.

    >>> with_identifier("xq7zkb", "a pond")
    'xq7zkb a pond'
    """
    return f"{token} {caption}" if token else caption


def _is_telling(part: str) -> bool:
    return len(part) >= MIN_PART_LETTERS and part.lower() not in PARTICLES and part.isalpha()
