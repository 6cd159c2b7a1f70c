"""The marks of the page's map."""

from __future__ import annotations

from lorastyle.explorer.columns import MARKS
from lorastyle.records import Role
from lorastyle.report.source import KINDS
from lorastyle.report.style_map import OUTLINES, SHAPES


def test_each_kind_of_adapter_has_a_mark_of_its_own() -> None:
    drawn = [OUTLINES[SHAPES[kind]] for kind in KINDS]
    assert len(set(drawn)) == len(drawn) == len(SHAPES)


def test_the_map_and_the_explorer_mark_a_role_alike() -> None:
    for role in Role:
        if role.value in SHAPES:
            assert MARKS[role.value].outline == OUTLINES[SHAPES[role.value]]
