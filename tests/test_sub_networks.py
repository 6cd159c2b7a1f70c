"""Expressions of sub-networks: what is one, and what is said of what is none."""

import re

import pytest

from lorastyle.errors import ConfigError
from lorastyle.sub_networks import FAMILIES, check, check_entry, file_name, parse


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("full", "full"),
        (" full -  cross_attention ", "full-cross_attention"),
        ("up & to_v + mid", "up&to_v+mid"),
        ("down.0+up.11", "down.0+up.11"),
        ("res1 - res16", "res1-res16"),
        ("attention&to_out+ff_in+ff_out", "attention&to_out+ff_in+ff_out"),
        (
            "mid_block.attentions.0.transformer_blocks.0.ff.net.2",
            "mid_block.attentions.0.transformer_blocks.0.ff.net.2",
        ),
        ("*.attn1.* - up_blocks.*", "*.attn1.*-up_blocks.*"),
    ],
)
def test_only_spaces_are_taken_out(written, canonical):
    assert check(written) == check(canonical) == check_entry(written) == canonical


def test_intersections_bind_before_unions():
    assert parse("full-up&to_v+mid") == (
        ("+", ("full",)),
        ("-", ("up", "to_v")),
        ("+", ("mid",)),
    )


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("full-feed_foward", "'feed_foward'; did you mean 'feed_forward'?"),
        ("to_vv", "'to_vv'; did you mean 'to_v'?"),
        ("banana", "'banana'; use full, self_attention"),
        ("down.01", "'down.01'; did you mean 'down.1'?"),
        ("up.", "'up.'"),
        ("up.*", "'up.*'"),
        ("mid.0", "did you mean 'mid'?"),
        ("res3", "'res3'"),
        ("res0", "'res0'"),
        ("Full", "did you mean 'full'?"),
        ("up down", "'up down'"),
        ("", "lacks a name"),
        ("full-", "lacks a name"),
        ("-up", "lacks a name"),
        ("up&&mid", "lacks a name"),
        ("full!up", "the character '!'"),
        ("full\n", r"the character '\n'"),
        ("(up+mid)&to_v", "the character '('"),
        ("résidu.x", "the character 'é'"),
        ("up+" * 80 + "up", "242 characters, at most 200"),
        ("by-block", "give a family alone"),
        ("full-by-module", "give a family alone"),
    ],
)
def test_what_is_wrong_is_named(expression, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        check(expression)


def test_families_stand_alone_in_lists():
    assert [check_entry(f" {name} ") for name in FAMILIES] == list(FAMILIES)
    with pytest.raises(ConfigError, match=r"no family 'by-blocks' .*did you mean 'by-block'"):
        check_entry("by-blocks")
    with pytest.raises(ConfigError, match="choose one of: by-sub-network"):
        check_entry("by-colour")
    with pytest.raises(ConfigError, match="by-block"):
        check_entry("by-block+mid")


def test_files_get_short_names_of_their_own():
    plain = ["full", "feed_forward", "down.1", "res8"]
    assert [file_name(name) for name in plain] == plain
    others = ["full-up", "full+up", "full&up", "*.to_q", "*", "a." * 99 + "b", "a." * 99 + "c"]
    names = [file_name(name) for name in others]
    assert len({name.lower() for name in [*names, *plain]}) == len(others) + len(plain)
    assert all(len(name) <= 70 and re.fullmatch(r"[a-z0-9_.-]+", name) for name in names)
