"""What a run embeds: its own settings, and what its sweep tries besides."""

from __future__ import annotations

from typing import Any

import pytest

from lorastyle.adapters.family import family_modules
from lorastyle.config import Experiment, parse_experiment
from lorastyle.embedding.wanted import embedded_products, wanted_products

SD1 = family_modules("sd1")


def experiment(embedding: dict[str, Any], sweep: dict[str, Any]) -> Experiment:
    return parse_experiment({"embedding": embedding, "sweep": sweep})


def test_a_plain_sweep_wants_what_is_embedded():
    plain = experiment({}, {})
    assert wanted_products(plain, SD1) == embedded_products(plain, SD1)
    assert embedded_products(plain, SD1) == (
        ("factors", "delta"),
        ("full", "feed_forward", "self_attention", "cross_attention"),
    )


@pytest.mark.parametrize(
    ("sweep", "representations"),
    [
        ({"truncated_ranks": [4, 8]}, ("factors", "delta", "delta@4", "delta@8")),
        (
            {"truncated_ranks": [4], "representations": ["delta-aligned", "factors"]},
            ("factors", "delta", "delta-aligned", "delta-aligned@4"),
        ),
        ({"representations": ["delta"]}, ("factors", "delta")),
    ],
)
def test_updates_are_cut_to_every_rank_that_the_sweep_names(sweep, representations):
    assert wanted_products(experiment({}, sweep), SD1).representations == representations


def test_families_become_what_the_layout_has_and_what_names_no_module_is_left_out():
    swept = experiment(
        {"sub_networks": ["full", "up.0"]},
        {"sub_networks": ["by-block", "full", "mid & to_q", "down.3"]},
    )
    assert embedded_products(swept, SD1).expressions == ("full",)
    assert wanted_products(swept, SD1).expressions == ("full", "down", "mid", "up", "mid&to_q")
