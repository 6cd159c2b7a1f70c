"""The groups of modules that sub-networks are unions of."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorastyle.adapters.layout import AdapterLayout, TargetModule
from lorastyle.embedding.groups import Partition, columns_of, groups_for, refines
from lorastyle.records import SUB_NETWORKS

LAYOUT = AdapterLayout.of_modules(
    2,
    [
        TargetModule(f"{block}.0.{kind}", sub_network, 8, 6)
        for block in ("down_blocks", "up_blocks")
        for kind, sub_network in (
            ("attn1.to_q", "self_attention"),
            ("attn1.to_v", "self_attention"),
            ("attn2.to_q", "cross_attention"),
            ("ff.net.2", "feed_forward"),
        )
    ],
)
EXPRESSIONS = ("full", "down", "up", "to_q", "full-to_v", "attention&down", "feed_forward", "mid")
chosen = st.lists(st.sampled_from(EXPRESSIONS), max_size=4)


def names_of(groups) -> dict[str, list[str]]:
    return {name: [module.name for module in modules] for name, modules in groups.items()}


def test_whole_sub_networks_keep_their_names_and_parts_have_a_digest():
    assert tuple(groups_for(LAYOUT, ())) == SUB_NETWORKS
    groups = names_of(groups_for(LAYOUT, ["down_blocks.*.to_q"]))
    whole = [name for name in groups if "/" not in name]
    assert whole == ["feed_forward"]
    for name in groups.keys() - whole:
        assert re.fullmatch(r"(self|cross)_attention/[0-9a-f]{12}", name)
    assert ["down_blocks.0.attn1.to_q"] in groups.values()


@given(chosen, chosen)
def test_groups_answer_for_their_own_expressions_whatever_else_was_asked_for(some, more):
    groups = groups_for(LAYOUT, [*some, *more])
    partition = Partition.of(LAYOUT, groups)
    assert sorted(itertools.chain(*partition.members.values())) == sorted(LAYOUT.modules)
    for expression in some:
        found = partition.union(expression)
        assert found is not None
        assert bool(found) == (expression != "mid")
    coarser = Partition.of(LAYOUT, groups_for(LAYOUT, some))
    assert refines(partition.members, coarser.members)
    is_same = partition.members == coarser.members
    assert refines(coarser.members, partition.members) == is_same


def test_what_cuts_a_group_in_two_is_no_union_of_groups():
    partition = Partition.of(LAYOUT, groups_for(LAYOUT, ["down"]))
    assert partition.union("down&attention") is not None
    assert partition.union("to_q") is None
    assert partition.union("mid") == ()


@pytest.mark.parametrize("missing", range(3))
def test_groups_that_lack_a_module_are_not_fine_enough(missing):
    whole = Partition.of(LAYOUT, groups_for(LAYOUT, ())).members
    part = {name: modules for name, modules in whole.items() if name != SUB_NETWORKS[missing]}
    assert not refines(part, whole)


def test_columns_of_neighbours_are_joined():
    modules = groups_for(LAYOUT, ["to_q"])
    ranges = [columns_of(parts) for parts in modules.values()]
    assert sum(part.stop - part.start for parts in ranges for part in parts) == LAYOUT.size
    (self_q,) = (parts for parts in modules.values() if parts[0].name.endswith("attn1.to_q"))
    assert len(columns_of(self_q)) == 2
