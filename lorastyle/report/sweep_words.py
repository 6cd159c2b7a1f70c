"""What the tables and figures of a sweep call things."""

from __future__ import annotations

from lorastyle.evaluation.swept import TRAINED, TRUNCATED
from lorastyle.report.sweep_results import (
    Choice,
    Setting,
    SweepResults,
    Variant,
)
from lorastyle.report.words import SCORE_NAMES, percent, representation_name, sub_network_name

LONGEST_NAME = 34
MODULE_PARTS = (
    ("_blocks.", "."),
    ("mid_block.", "mid."),
    (".attentions.", ".a"),
    (".transformer.", ".b"),
)
CALIBRATION_NAMES = {
    "full": "full calibration",
    "simple": "simple calibration",
    "none": "no calibration",
}


def score_name(score: str, top_k: int | None) -> str:
    """A score's heading.

    >>> score_name("recall_at_k", 8)
    'Recall@8'
    """
    return SCORE_NAMES[score].replace("@k", "@k" if top_k is None else f"@{top_k}")


def variant_name(swept: SweepResults, variant: Variant) -> str:
    """How adapters are compared, in words; the rank only where there are several."""
    if variant.rank_method == TRUNCATED:
        return representation_name(f"{variant.representation}@{variant.rank}")
    name = representation_name(variant.representation)
    return f"{name}, rank {variant.rank}" if len(swept.ranks(TRAINED)) > 1 else name


def short_name(expression: str) -> str:
    """A sub-network in words, its modules abbreviated; of a long one the middle is left out.

    >>> short_name("up_blocks.1.attentions.2.transformer_blocks.0.attn1.to_out.0")
    'up.1.a2.b0.attn1.to_out.0'
    """
    name = sub_network_name(expression)
    for long, short in MODULE_PARTS:
        name = name.replace(long, short)
    half = (LONGEST_NAME - 1) // 2
    return name if len(name) <= LONGEST_NAME else f"{name[:half]}…{name[-half:]}"


def setting_name(swept: SweepResults, setting: Setting) -> str:
    """A setting in words."""
    return f"{variant_name(swept, setting.variant)}, {sub_network_name(setting.sub_network)}"


def rank_text(setting: Setting) -> str:
    """The rank, and whether updates were cut to it."""
    if setting.rank is None:
        return "any"
    return f"cut to {setting.rank}" if setting.rank_method == TRUNCATED else str(setting.rank)


def share_text(share: float) -> str:
    """A share of d, as the paper writes it.

    >>> share_text(1.0), share_text(0.4649), share_text(0.00213)
    ('d', '0.46 d', '0.0021 d')
    """
    if share >= 0.995:
        return "d"
    return f"{share:.2f} d" if share >= 0.095 else f"{share:.2g} d"


def score_text(choice: Choice | None, score: str) -> str:
    """In percent, with the spread over seeds where there is one."""
    value = None if choice is None else choice.score(score)
    return "–" if choice is None or value is None else percent(value, choice.spread(score))


def count_text(choice: Choice | None) -> str:
    """The chosen PC count, and in brackets that of the largest score where it is another."""
    if choice is None:
        return "–"
    moved = choice.argmax != choice.n_components
    return f"{choice.n_components} ({choice.argmax})" if moved else f"{choice.n_components}"
