"""No caption tells who painted."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorastyle.corpus.captions import (
    TOKEN_ALPHABET,
    fold,
    identifier_token,
    name_pattern,
    scrub,
    scrub_naming,
    with_identifier,
)

ARTISTS = ["vincent_van_gogh", "albrecht_durer", "Claude Monet", "utagawa_hiroshige_ii"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a painting by Vincent van Gogh", "a painting"),
        ("A VAN GOGH of sunflowers", "A of sunflowers"),
        ("vincent-van-gogh: sunflowers", "sunflowers"),
        ("Dürer's hare on a table", "hare on a table"),
        ("a hare, in the style of Albrecht DÜRER, on grass", "a hare, on grass"),
        ("a pond (Monet)", "a pond"),
        ("a van in the street", "a van in the street"),
        ("a monetary reform", "a monetary reform"),
        ("monet", ""),
        ("a bridge by hiroshige and claude", "a bridge"),
        ("waves by Utagawa  Hiroshige II at night", "waves at night"),
    ],
)
def test_names_are_taken_out_whole_and_nothing_else_is(before, after):
    assert scrub(before, name_pattern(ARTISTS)) == after


def test_a_decomposed_accent_is_no_hiding_place():
    assert scrub("a hare by Du\u0308rer", name_pattern(["albrecht_durer"])) == "a hare"
    assert scrub("a hare by Durer", name_pattern(["Albrecht Dürer"])) == "a hare"


def test_the_users_words_are_taken_out_as_phrases():
    pattern = name_pattern(["x"], ["impressionist", "museum of art"])
    assert scrub("an impressionist pond, Museum of Art", pattern) == "an pond"
    assert scrub("art in a museum", pattern) == "art in a museum"


def test_words_are_taken_literally_and_not_as_patterns():
    assert scrub("a pond (c)", name_pattern([], ["a.*d"])) == "a pond (c)"


@pytest.mark.parametrize(
    ("caption", "names"),
    [
        ("a pond, painted by  Claude MONET", ("Claude MONET",)),
        ("D\u00fcrer's hare (after van Gogh) by Monet", ("D\u00fcrer", "Gogh", "Monet")),
        ("a van in the street", ()),
    ],
)
def test_what_is_taken_out_is_named_as_it_was_written(caption, names):
    assert scrub_naming(caption, name_pattern(ARTISTS))[1] == names


names = st.text("abcdéü_ -", min_size=1, max_size=12).filter(
    lambda name: len(name.strip(" _-")) > 2
)


@given(
    st.lists(names, min_size=1, max_size=4), st.text(max_size=20), st.text(max_size=20), st.data()
)
def test_no_full_name_survives_scrubbing(artists, before, after, data):
    artist = data.draw(st.sampled_from(artists))
    pattern = name_pattern(artists)
    scrubbed = scrub(f"{before} {artist.upper()} {after}", pattern)
    parts = re.findall(r"\w+", fold(artist).replace("_", " "))
    whole = r"(?<![^\W_])" + r"[\s_.\-]+".join(parts) + r"(?![^\W_])"
    assert not re.search(whole, fold(scrubbed), re.IGNORECASE)


@given(st.text(max_size=60))
def test_folding_keeps_positions(text):
    assert len(fold(text)) == len(unicodedata.normalize("NFC", text))


def test_tokens_are_random_words_without_vowels_that_repeat_for_a_key():
    tokens = {identifier_token(0, number) for number in range(500)}
    assert len(tokens) == 500
    assert all(set(token) <= set(TOKEN_ALPHABET) and token[0].isalpha() for token in tokens)
    assert identifier_token(0, 7) == identifier_token(0, 7)


def test_an_adapter_without_a_token_is_trained_on_the_caption_alone():
    assert with_identifier("", "a pond") == "a pond"
