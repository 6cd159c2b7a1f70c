"""Own words first, then a captioner's, then the template; and every choice is written down."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lorastyle.corpus.caption_sources import CaptionSource, UsedCaption, finish_captions
from lorastyle.corpus.works import Work

OWN, CAPTIONER, TEMPLATE = CaptionSource.OWN, CaptionSource.CAPTIONER, CaptionSource.TEMPLATE


def work(caption: str, artist: str = "Claude Monet", number: int = 0) -> Work:
    name = f"{artist}/{number}.png"
    return Work(name, name, artist, "unknown", caption, str(number), 8, 8)


def test_every_artists_name_is_taken_out_of_every_caption_and_reported() -> None:
    works = [work("like a Degas"), work("a pond", number=1), work("", "degas", 2)]
    finished, used = finish_captions(works, "a painting")
    assert [item.caption for item in finished] == ["like", "a pond", "a painting"]
    assert used == [
        UsedCaption("Claude Monet/0.png", OWN, "like a Degas", "like", ("Degas",)),
        UsedCaption("Claude Monet/1.png", OWN, "a pond", "a pond", ()),
        UsedCaption("degas/2.png", TEMPLATE, "", "a painting", ()),
    ]


def test_a_caption_of_nothing_but_a_name_becomes_the_template_and_is_reported() -> None:
    finished, used = finish_captions([work("Claude Monet")], "a painting")
    assert finished[0].caption == "a painting"
    assert used == [
        UsedCaption("Claude Monet/0.png", TEMPLATE, "Claude Monet", "a painting", ("Claude Monet",))
    ]


def test_only_what_has_no_words_of_its_own_is_described() -> None:
    asked = []

    def describe(works: Sequence[Work]) -> list[str]:
        asked.extend(work.image_id for work in works)
        return ["a hat by degas, on a hill", "a boat", "Degas", ""]

    works = [
        work("a pond"),
        work("", number=1),
        work("by Monet", "degas", 2),
        work(" ", "degas", 3),
        work("a hidden word", "degas", 4),
    ]
    finished, used = finish_captions(works, "a work", ["hidden word"], describe)
    assert asked == ["Claude Monet/1.png", "degas/2.png", "degas/3.png", "degas/4.png"]
    assert used == [
        UsedCaption("Claude Monet/0.png", OWN, "a pond", "a pond", ()),
        UsedCaption(
            *("Claude Monet/1.png", CAPTIONER, "a hat by degas, on a hill", "a hat, on a hill"),
            ("degas",),
        ),
        UsedCaption("degas/2.png", CAPTIONER, "a boat", "a boat", ("Monet",)),
        UsedCaption("degas/3.png", TEMPLATE, "Degas", "a work", ("Degas",)),
        UsedCaption("degas/4.png", TEMPLATE, "a hidden word", "a work", ("hidden word",)),
    ]
    assert [item.caption for item in finished] == [item.used for item in used]


def test_where_all_have_captions_nobody_is_asked() -> None:
    def describe(works: Sequence[Work]) -> list[str]:
        pytest.fail(f"asked for {works}")

    finished, _ = finish_captions(
        [work("a pond"), work("a lake", "degas", 1)], "a work", (), describe
    )
    assert [item.caption for item in finished] == ["a pond", "a lake"]
