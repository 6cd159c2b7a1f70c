"""What people read in place of expressions and keys."""

import pytest

from lorastyle.report.words import space_name, sub_network_name


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("full", "full network"),
        ("feed_forward", "feed-forward"),
        ("attention", "attention"),
        ("down+mid", "down blocks + middle block"),
        ("down.0&to_out", "down block 0 ∩ to_out"),
        ("full - res1&ff_in", "full network − full resolution ∩ ff_in"),
        ("res16", "resolution 1/16"),
        ("mid_block.attentions.0.*", "mid_block.attentions.0.*"),
        ("<b>", "<b>"),
    ],
)
def test_expressions_become_words(expression, words):
    assert sub_network_name(expression) == words


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("delta-aligned/cross_attention", "ΔW, aligned · cross-attention"),
        ("delta/full@rank8", "ΔW of rank 8 · full network"),
        ("delta/up&to_v@truncated4", "ΔW cut to rank 4 · up blocks ∩ to_v"),
        ("delta@4/mid", "ΔW cut to rank 4 · middle block"),
    ],
)
def test_keys_become_words(key, words):
    assert space_name(key) == words
