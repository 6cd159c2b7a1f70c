from __future__ import annotations

import pytest

from lorastyle.ablation.factors import FACTORS
from lorastyle.errors import ConfigError


@pytest.mark.parametrize(
    ("factor", "text", "values"),
    [
        ("components", " 8,2 ,2,", ("8", "2")),
        ("rank", "016", ("16",)),
        ("calibration", "none,full", ("none", "full")),
        ("initialisation", "independent", ("independent",)),
        ("sub-networks", "full - cross_attention,by-block", ("full-cross_attention", "by-block")),
    ],
)
def test_values_are_read_once_each_under_one_name(factor, text, values):
    assert FACTORS[factor].read_values(text) == values


@pytest.mark.parametrize(
    ("factor", "text", "said"),
    [
        ("components", "0", "'0' is no value of components, which is a whole number from 1"),
        ("images", "2.5", "'2.5' is no value"),
        ("gallery-size", "-1", "'-1' is no value"),
        ("rank", "²", "'²' is no value"),  # a digit to str.isdigit
        ("rank", "9" * 5000, "is no value of rank"),
        ("calibration", "half", "one of full, simple, none; write --values full,simple"),
        ("initialisation", "random", "one of shared, independent"),
        ("sub-networks", "fulll", "fulll"),
        ("rank", " , ", "names no value of rank; write --values 1,2,4"),
        ("rank", "\x1b[2J", "'[2J' is no value"),
    ],
)
def test_what_is_no_value_is_refused_in_a_sentence(factor, text, said):
    with pytest.raises(ConfigError) as caught:
        FACTORS[factor].read_values(text)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 300
