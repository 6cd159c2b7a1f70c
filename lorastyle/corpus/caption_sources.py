"""Each image's caption: the first source that has one, scrubbed.

The user's own words come first, then what a captioner says, then a template that says nothing.
What became of every caption is written down: a name that slips through would let the text
encoder, not the pictures, tell artists apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from re import Pattern

from lorastyle.corpus.captions import name_pattern, scrub_naming
from lorastyle.corpus.works import Work

Describe = Callable[[Sequence[Work]], Sequence[str]]
"""A text for each work. Only called where there are some that need one."""


class CaptionSource(StrEnum):
    """Whose words a caption is."""

    OWN = "own"
    CAPTIONER = "captioner"
    TEMPLATE = "template"


@dataclass(frozen=True)
class UsedCaption:
    """What became of one image's caption."""

    image_id: str
    source: CaptionSource
    found: str
    """As the source has it; beside a template, the last text of which nothing remained."""
    used: str
    """What is trained on, after the identifier."""
    touched: tuple[str, ...]
    """Names and words that were taken out, in the order of the texts they were in."""


def finish_captions(
    works: Sequence[Work],
    template: str,
    scrub_words: Iterable[str] = (),
    describe: Describe | None = None,
) -> tuple[list[Work], list[UsedCaption]]:
    """Give every work its final caption; say, in the same order, where each comes from.

    The names of *all* artists are taken out of every caption: that one painter is likened to
    another is a hint as well. A text of which nothing remains is no caption, and the next source
    is asked. `template` is used as it is.
    """
    names = name_pattern({work.artist for work in works}, scrub_words)
    lacking = [work for work in works if not scrub_naming(work.caption, names)[0]]
    texts = describe(lacking) if describe is not None and lacking else [""] * len(lacking)
    described = {work.image_id: text for work, text in zip(lacking, texts, strict=True)}
    used = [_choose(work, described.get(work.image_id, ""), template, names) for work in works]
    finished = [replace(work, caption=one.used) for work, one in zip(works, used, strict=True)]
    return finished, used


def _choose(work: Work, description: str, template: str, names: Pattern[str] | None) -> UsedCaption:
    touched: tuple[str, ...] = ()
    found = ""
    sources = ((CaptionSource.OWN, work.caption), (CaptionSource.CAPTIONER, description))
    for source, text in sources:
        rest, taken = scrub_naming(text, names)
        found, touched = text or found, touched + taken
        if rest:
            return UsedCaption(work.image_id, source, found, rest, touched)
    return UsedCaption(work.image_id, CaptionSource.TEMPLATE, found, template, touched)
