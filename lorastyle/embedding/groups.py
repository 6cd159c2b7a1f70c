"""Groups of target modules: each gets a Gram matrix of its own, and sums give any union."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from lorastyle.adapters.layout import AdapterLayout
from lorastyle.adapters.naming import sub_network_of_name
from lorastyle.embedding.delta_products import Module

Groups = Mapping[str, Sequence[Module]]
"""Modules by the group's name: a sub-network, or `SUBNETWORK/MODULE`."""


def sub_network_groups(layout: AdapterLayout) -> dict[str, list[Module]]:
    """The sub-networks that the layout has, in its order."""
    groups: dict[str, list[Module]] = {}
    for module in _modules(layout):
        groups.setdefault(module.entry_a.sub_network, []).append(module)
    return groups


def module_groups(layout: AdapterLayout) -> dict[str, list[Module]]:
    """Every module by itself: n^2 numbers for each, but any union without another pass."""
    return {f"{module.entry_a.sub_network}/{module.name}": [module] for module in _modules(layout)}


def sub_network_of(group: str) -> str:
    """The sub-network a group belongs to.

    >>> sub_network_of("feed_forward/mid_block.ff.net.2")
    'feed_forward'
    """
    return group.partition("/")[0]


def group_of(module: str, groups: Collection[str]) -> str | None:
    """Which of these groups a module is in, or None.

    >>> group_of("mid_block.ff.net.2", {"feed_forward"})
    'feed_forward'
    """
    sub_network = sub_network_of_name(module)
    names = (f"{sub_network}/{module}", sub_network)
    return next((name for name in names if name in groups), None)


def columns_of(modules: Sequence[Module]) -> list[slice]:
    """The column ranges of some modules, neighbours joined."""
    ranges: list[slice] = []
    for module in modules:
        if ranges and ranges[-1].stop == module.columns.start:
            ranges[-1] = slice(ranges[-1].start, module.columns.stop)
        else:
            ranges.append(module.columns)
    return ranges


def _modules(layout: AdapterLayout) -> list[Module]:
    entries = layout.entries
    return [Module(a, b) for a, b in zip(entries[::2], entries[1::2], strict=True)]
